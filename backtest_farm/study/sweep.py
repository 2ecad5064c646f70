"""Sweep: a specification with axes, planned and run."""

from __future__ import annotations

import os
from typing import Any, Literal

from backtest_farm.engine.trials import data_digest, fits, window_of
from backtest_farm.engine.warm import is_compiled
from backtest_farm.farm import SweepRequest, run_sweep
from backtest_farm.kernel import RESULT_EPOCH
from backtest_farm.panel import Panel
from backtest_farm.store import StudyStore
from backtest_farm.study.study import Study
from backtest_farm.sweep import Plan, SweepSpec, load_sweep

BUILT_IN_CODE = "built-in"
"""Code digest of declarative strategies: their code is the package's, whose results RESULT_EPOCH versions."""

SECONDS_PER_TRIAL_BAR = 6e-7
SECONDS_PER_FACTOR_CELL = 1e-8
"""Measured on one core; only the choice of an executor and a first shard size depend on them."""

COMPILES_FIRST = "the first run here compiles the kernel, some 15 s"


class Sweep:
    """A panel, a strategy with axes, and how it trades.

    Parameters
    ----------
    panel : Panel, str or path
    strategy : TopN
        Axes are written ``bf.axis([...])``, at any parameter.
    **parts
        ``costs``, ``window``, ``fill``, ``sizing``, ``cash``, ``limits``, ``keep``, ``profile``,
        ``limit``: see `backtest_farm.sweep.SweepSpec`.

    Raises
    ------
    InputError
        With all faults at once.

    Examples
    --------
    >>> signal = bf.factor.momentum(bf.axis([63, 126]), skip=21)  # doctest: +SKIP
    >>> strategy = bf.TopN(signal=signal, n=bf.axis([10, 25]), rebalance=5)  # doctest: +SKIP
    >>> study = bf.Sweep(panel="panels/us", strategy=strategy).run(store="studies/us")  # doctest: +SKIP
    """

    def __init__(self, *, panel: Panel | str | os.PathLike[str], strategy: Any, **parts: Any) -> None:
        self._panel = panel if isinstance(panel, Panel) else None
        path = panel.path if isinstance(panel, Panel) else panel
        self.spec = SweepSpec.from_python(panel=path, strategy=strategy, **parts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Sweep:
        """Read a sweep file (YAML); relative paths in it are relative to the file.

        Raises
        ------
        InputError
            With all faults at once: file, line, what stands there, what is allowed.
        """
        return cls.of(load_sweep(os.fspath(path)))

    @classmethod
    def of(cls, spec: SweepSpec) -> Sweep:
        """Return the sweep of a specification that was read and checked before."""
        sweep = cls.__new__(cls)
        sweep._panel = None
        sweep.spec = spec
        return sweep

    def plan(self) -> dict[str, Any]:
        """Return counts and estimates, running nothing.

        Returns
        -------
        dict
            ``sweep_id``, counts of trials, atoms, unique factors and rankings, builds, rows and bytes, and
            ``cpu_seconds``, a rough estimate for one core.
        """
        plan, panel, n_bars = self._frozen()
        return {
            "sweep_id": plan.sweep_id,
            **plan.estimate(n_bars),
            "cpu_seconds": _cpu_seconds(plan, panel, n_bars),
        }

    def run(
        self,
        store: str | os.PathLike[str],
        *,
        executor: Literal["auto", "inline", "ray"] = "auto",
        resume: bool = True,
        workers: int | None = None,
        address: str | None = None,
        progress: bool = True,
        shard_seconds: float | None = None,
    ) -> Study:
        """Run every trial that the study does not hold yet.

        Parameters
        ----------
        store : str or path
            The study's folder; made if missing.
        executor : {"auto", "inline", "ray"}
            This process, or Ray (a local node unless `address` is given). ``auto`` takes Ray when the
            estimate says it pays. Results do not depend on it.
        resume : bool, default True
            Go on from what the study holds; when False, a study with rows is refused.
        workers : int, optional
            Worker processes; one per core when not given.
        address : str, optional
            A running Ray cluster.
        progress : bool, default True
            Show progress on standard error.
        shard_seconds : float, optional
            Seconds of work per task instead of a calibrated value; results do not depend on it.

        Returns
        -------
        Study

        Raises
        ------
        InputError, PanelError, StoreError, PlatformError
        KeyboardInterrupt
            After Ctrl-C: everything committed stays, and the same call goes on from there.
        """
        plan, panel, n_bars = self._frozen()
        request = SweepRequest(
            spec_json=plan.frozen_json(),
            sweep_id=plan.sweep_id,
            n_atoms=plan.n_atoms,
            n_trials=plan.n_trials,
            store=os.fspath(store),
            estimated_seconds=_cpu_seconds(plan, panel, n_bars),
            note="" if is_compiled() else COMPILES_FIRST,
        )
        summary = run_sweep(
            request,
            executor=executor,
            workers=workers,
            address=address,
            progress=progress,
            resume=resume,
            shard_seconds=shard_seconds,
        )
        study = Study(StudyStore.open(store), summary)
        study.keep_curves(self.spec.keep, panel)
        return study

    def _frozen(self) -> tuple[Plan, Panel, int]:
        """Return the plan on the data as it is now, the panel, and the window's number of bars."""
        if self._panel is None:
            self._panel = Panel.open(self.spec.panel)
        panel, strategy = self._panel, self.spec.strategy
        fits(panel, strategy)
        window = window_of(panel, self.spec.window, strategy.warmup)
        plan = Plan(
            self.spec,
            data_digest(panel, strategy.fields, window),
            BUILT_IN_CODE,
            RESULT_EPOCH,
            panel_ref={"path": str(panel.path), "snapshot": panel.snapshot},
        )
        return plan, panel, window.stop - window.start


def _cpu_seconds(plan: Plan, panel: Panel, n_bars: int) -> float:
    cells = plan.n_factors * panel.shape[0] * panel.shape[1]
    return plan.n_trials * n_bars * SECONDS_PER_TRIAL_BAR + cells * SECONDS_PER_FACTOR_CELL
