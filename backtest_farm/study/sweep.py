"""Sweep: a specification with axes, planned and run."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any, Literal

from backtest_farm.engine.targets import fits, units_of
from backtest_farm.engine.trials import check_terms, window_of
from backtest_farm.engine.warm import is_compiled
from backtest_farm.errors import InputError
from backtest_farm.factors.ranks import Window
from backtest_farm.farm import run_sweep
from backtest_farm.farm.job import data_digests
from backtest_farm.kernel import RESULT_EPOCH
from backtest_farm.panel import Panel
from backtest_farm.spec import MAX_TRIALS, values_of
from backtest_farm.spec import Window as WindowSpec
from backtest_farm.store import StudyStore
from backtest_farm.strategy import Strategy
from backtest_farm.strategy.own import is_importable
from backtest_farm.study.study import Study, analysis
from backtest_farm.sweep import Plan, PlannedUniverse, SweepSpec, load_sweep

BUILT_IN_CODE = "built-in"
"""Code digest of declarative strategies: their code is the package's, whose results RESULT_EPOCH versions."""

COMPILES_FIRST = "the first run here compiles the kernel, about a minute"


class Sweep:
    """A panel, a strategy with axes, and how it trades.

    Parameters
    ----------
    panel : Panel, str or path
    strategy : TopN, Quantiles, CrossOver, Weights or Strategy
        Axes are written ``bf.axis([...])``, at any parameter.
    **parts
        ``universes``, ``where``, ``costs``, ``window``, ``fill``, ``sizing``, ``cash``, ``limits``, ``keep``,
        ``profile``, ``limit``: see `backtest_farm.sweep.SweepSpec`.

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

    def __init__(
        self,
        *,
        panel: Panel | str | os.PathLike[str],
        strategy: Any,
        limit: int = MAX_TRIALS,
        **parts: Any,
    ) -> None:
        self._panel = panel if isinstance(panel, Panel) else None
        path = panel.path if isinstance(panel, Panel) else panel
        self.spec = SweepSpec.from_python(panel=path, strategy=strategy, limit=limit, **parts)
        self._limit = limit

    @classmethod
    def load(cls, path: str | os.PathLike[str], limit: int = MAX_TRIALS) -> Sweep:
        """Read a sweep file (YAML); relative paths in it are relative to the file.

        Raises
        ------
        InputError
            With all faults at once: file, line, what stands there, what is allowed.
        """
        return cls.of(load_sweep(os.fspath(path), limit=limit), limit)

    @classmethod
    def of(cls, spec: SweepSpec, limit: int = MAX_TRIALS) -> Sweep:
        """Return the sweep of a specification that was read and checked before."""
        sweep = cls.__new__(cls)
        sweep._panel = None
        sweep.spec = spec
        sweep._limit = limit
        return sweep

    def plan(self, workers: int | None = None) -> dict[str, Any]:
        """Return counts and estimates, running nothing.

        Parameters
        ----------
        workers : int, optional
            As in `run`.

        Returns
        -------
        dict
            ``sweep_id``, and the counts and estimates of `backtest_farm.analysis.cost.estimate`, for a study
            and caches that hold nothing yet; ``first_bar`` and ``last_bar`` of the window; ``notices``, what
            may not be meant as it stands; ``note``, what the first run costs once, empty when nothing.
        """
        plan, panel, window = self._frozen()
        estimated = analysis("cost:estimate")(plan, panel, window, workers)
        first, last = panel.timestamps[[window.start, window.stop - 1]].tolist()
        said = {
            "sweep_id": plan.sweep_id,
            "note": _note(),
            "notices": window_notices(panel, self.spec.window),
        }
        return {**said, "first_bar": first, "last_bar": last, **estimated}

    def run(
        self,
        store: str | os.PathLike[str],
        *,
        executor: Literal["auto", "inline", "ray"] = "auto",
        resume: bool = True,
        extend: bool = False,
        retry_failed: bool = False,
        dedup: bool = True,
        workers: int | None = None,
        address: str | None = None,
        progress: bool = True,
        shard_seconds: float | None = None,
        deadline: float | None = None,
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
            Go on from what the study holds; when False, a study with rows of this sweep is refused.
        extend : bool, default False
            Add this sweep to the history of a study that holds others; without it such a study is refused.
        retry_failed : bool, default False
            Run the trials again that have no result.
        dedup : bool, default True
            Copy the rows of equal trials, of the study's other sweeps and of this one, instead of running
            them; results do not depend on it.
        workers : int, optional
            Worker processes; one per core when not given.
        address : str, optional
            A running Ray cluster.
        progress : bool, default True
            Show progress on standard error.
        shard_seconds : float, optional
            Seconds of work per task instead of a calibrated value; results do not depend on it.
        deadline : float, optional
            Seconds that up to 256 trials, which run together, may take before their process is killed. Then
            they are tried apart, and those that take longer alone get the status ``timeout``. Only Ray's
            workers can be killed: ``auto`` takes Ray then, ``inline`` is refused.

        Returns
        -------
        Study

        Raises
        ------
        InputError, PanelError, StoreError, PlatformError
        KeyboardInterrupt
            After Ctrl-C or SIGTERM: everything committed stays, and the same call goes on from there.
        """
        plan, panel, window = self._frozen()
        if here := [each.spec_name for each in plan.own_strategies if not is_importable(type(each))]:
            if executor == "ray" or address is not None or deadline is not None:
                raise InputError(
                    f"{here[0]} can run in this process alone: no worker can import it",
                    hint="write it into a file beside the notebook or script, and import it from there",
                )
            executor = "inline"
        display = analysis("progress:choose_progress")(progress)
        for notice in window_notices(panel, self.spec.window):
            display.say(notice)
        summary = run_sweep(
            plan,
            store,
            estimate=lambda: analysis("cost:estimate")(plan, panel, window)["cpu_seconds"],
            note=_note(),
            executor=executor,
            workers=workers,
            address=address,
            display=display,
            resume=resume,
            extend=extend,
            retry_failed=retry_failed,
            dedup=dedup,
            shard_seconds=shard_seconds,
            deadline=deadline,
            check_data=panel.check_files,
        )
        study = Study(StudyStore.open(store, plan.sweep_id), summary)
        study.keep_curves(self.spec.keep, panel)
        return study

    def _frozen(self) -> tuple[Plan, Panel, Window]:
        """Return the plan on the data as it is now, the panel, and the bars that are traded."""
        if self._panel is None:
            self._panel = Panel.open(self.spec.panel)
        panel = self._panel
        fits(panel, self.spec.strategies)
        window = window_of(panel, self.spec.window, self.spec.strategies)
        check_terms(panel, self.spec, units_of(self.spec.strategies), window.stop)
        plan = Plan(
            self.spec,
            _universes(panel, self.spec, window),
            data_digests(panel, self.spec, window),
            _code_digest(self.spec, panel),
            RESULT_EPOCH,
            panel_ref={"path": str(panel.path), "snapshot": panel.snapshot},
        )
        # Only the panel tells how many universes an entry such as {each: symbol} stands for.
        if plan.n_points > self._limit:
            raise InputError(
                f"the grid has {plan.n_points:,} trials with its {len(plan.universes):,} universes, over the "
                f"limit of {self._limit:,}",
                hint="take fewer universes or values, or raise the limit",
            )
        return plan, panel, window


def window_notices(panel: Panel, asked: WindowSpec) -> list[str]:
    """Return what to know about a window: that it starts before the panel's first bar."""
    # Often meant (from the beginning on), so it is no error; but a panel may be shorter than one thinks.
    if asked.start in (None, "auto") or panel.bar_of(asked.start, "right") > 0:
        return []
    first = panel.timestamps[0]
    return [f"the window starts on {asked.start}, but the panel's first bar is {first}: trials start there"]


def _note() -> str:
    return "" if is_compiled() else COMPILES_FIRST


def _code_digest(spec: SweepSpec, panel: Panel) -> str:
    # What an expression means is for polars to say, and which session is a month's last for the calendar's
    # package: their versions count as code.
    signals = [each.signal for each in spec.strategies if "signal" in type(each).model_fields]
    used = {each for signal in signals for one in values_of(signal) for each in one.versions.items()}
    blocks = [each for each in spec.strategies if not isinstance(each, Strategy)]
    rebalances = [each for one in blocks for each in values_of(getattr(one, "rebalance", 1))]
    own = any(isinstance(each, Strategy) for each in spec.strategies)
    if own:  # it may return an expression, and any schedule
        used.add(("polars", version("polars")))
    if panel.calendar is not None and (own or any(isinstance(each, str) for each in rebalances)):
        used.add(("exchange_calendars", version("exchange_calendars")))
    return "+".join([BUILT_IN_CODE, *(f"{name}-{number}" for name, number in sorted(used))])


def _universes(panel: Panel, spec: SweepSpec, window: Window) -> tuple[PlannedUniverse, ...]:
    every = (one for asked in spec.universes for one in panel.expand(asked))
    return tuple(PlannedUniverse(one, panel.members_digest(one, *window)) for one in every)
