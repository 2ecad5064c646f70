"""Study: the results of a sweep, read from its store."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from backtest_farm.engine import Result
from backtest_farm.engine.single import run_one
from backtest_farm.engine.tile import ranked_targets
from backtest_farm.engine.trials import single_terms
from backtest_farm.errors import InputError, PanelError, StoreError, nearest
from backtest_farm.factors.ranks import ranking
from backtest_farm.farm import RunSummary
from backtest_farm.farm.job import SweepJob
from backtest_farm.kernel.summary import METRICS
from backtest_farm.panel import Panel
from backtest_farm.spec import Keep
from backtest_farm.store import StudyStore
from backtest_farm.sweep import Plan

if TYPE_CHECKING:
    import polars as pl

SMALLER_IS_BETTER = frozenset({"volatility", "turnover", "costs", "kurtosis", "orders", "fills"})
"""Metrics of which the smallest values lead a ranking; drawdown is negative, so its largest lead."""


class Study:
    """A study: rows of all trials, kept curves, and any trial again on demand.

    Use `Study.open`; `Sweep.run` returns one too.
    """

    def __init__(self, store: StudyStore, run: RunSummary | None = None) -> None:
        self._store = store
        self._run = run
        self.plan = Plan.from_json(store.spec_json)
        self._rows: tuple[int, pa.Table] | None = None
        self._job: SweepJob | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Study:
        """Open the study in a folder.

        Raises
        ------
        StoreError
            If there is none, or it is damaged.
        """
        return cls(StudyStore.open(path))

    def trials(self) -> pl.LazyFrame:
        """Return one row a trial, in order of trial numbers.

        Columns: trial, key, sweep, profile, universe, fold, window_start, window_end, numerics, status,
        error, digest, the axes by their dotted paths, bars, bars_per_year, the metrics (null where a trial
        failed, NaN where undefined), the reason counters, and per-segment sums of returns.
        """
        import polars as pl

        frame = pl.from_arrow(self._table())
        assert isinstance(frame, pl.DataFrame)
        return frame.lazy()

    def best(self, n: int = 20, by: str = "sharpe") -> pl.DataFrame:
        """Return the `n` leading trials by a metric, best first; ties go to the lower trial number.

        Parameters
        ----------
        n : int, default 20
        by : str, default "sharpe"
            Small values lead for volatility, turnover, costs, kurtosis, orders and fills; large ones
            otherwise. Trials without a value are left out.

        Raises
        ------
        InputError
            If there is no such metric, or `n` is below 1.
        """
        import polars as pl

        if by not in METRICS:
            raise InputError(f"{by!r} is no metric: {nearest(by, METRICS)}")
        if not isinstance(n, int) or n < 1:
            raise InputError(f"n is {n!r}: ask for a whole number of trials, at least 1")
        n = min(n, self.plan.n_trials)
        ranked = self.trials().filter((pl.col("status") == "ok") & pl.col(by).is_not_nan())
        return ranked.sort([by, "trial"], descending=[by not in SMALLER_IS_BETTER, False]).head(n).collect()

    def equity(self, trial: int | str) -> pl.DataFrame:
        """Return the curve of a trial: the kept one, or a replay's when none is kept.

        Parameters
        ----------
        trial : int or str
            Number or key.
        """
        import polars as pl

        row = self._row(trial)
        kept = self._store.get_curve(row["key"])
        if kept is None:
            return self.replay(row["trial"]).equity
        frame = pl.from_arrow(kept)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def replay(self, trial: int | str, *, panel: Panel | None = None) -> Result:
        """Run one trial again, with curve and ledger, and check it against the stored digest.

        Parameters
        ----------
        trial : int or str
            Number or key.
        panel : Panel, optional
            Where the sweep's data is now, if it moved; it must hold the same data.

        Raises
        ------
        StoreError
            If the replay's digest is not the stored one.
        PanelError
            If the panel is gone or holds other data.
        """
        row = self._row(trial)
        number = row["trial"]
        job = self._ready(panel)
        one = self.plan.trial(number)
        built = ranking(job.panel, one.strategy.signal, job.window, job.depth)
        result = run_one(
            job.panel,
            job.window,
            single_terms(one.strategy, one),
            ranked_targets(*built.ranking),
            {},
            job.market,
        )
        if result.digest != row["digest"]:
            raise StoreError(
                f"trial {number} gives digest {result.digest[:12]} now, but {row['digest'][:12]} is stored",
                hint="package or machine changed what comes out: run the sweep into a new study and compare",
            )
        result.check_ledger()
        return result

    @property
    def digest(self) -> str:
        """One string for all trials and their results, however they were run.

        sha256 over the sorted lines ``key status digest`` of rows with status ``ok`` or ``error``.
        """
        table = self._table()
        columns = [table[name].to_pylist() for name in ("key", "status", "digest")]
        lines = sorted(" ".join(row) for row in zip(*columns, strict=True) if row[1] in {"ok", "error"})
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def summary(self) -> dict[str, Any]:
        """Return counts: trials of the sweep, rows by status, and what the run that made this object did."""
        states = Counter(self._table()["status"].to_pylist())
        run = self._run
        counters = run.counters if run else {}
        return {
            "trials": self.plan.n_trials,
            "committed": sum(states.values()),
            "ok": states["ok"],
            "error": states["error"],
            "executed": run.n_new if run else 0,
            "reused": sum(states.values()) - (run.n_new if run else 0),
            "seconds": run.seconds if run else 0.0,
            "executor": run.executor if run else "none",
            "workers": run.workers if run else 0,
            "factors": self.plan.n_factors,
            "factor_builds": counters.get("factor_builds", 0),
            "rank_builds": counters.get("rank_builds", 0),
            "rank_reuses": counters.get("rank_reuses", 0),
            "stage_seconds": dict(run.stage_seconds) if run else {},
            "digest": self.digest,
            "sweep": self.plan.sweep_id,
            "store": self._store.uri,
        }

    def keep_curves(self, keep: Keep, panel: Panel | None = None) -> int:
        """Replay the leading trials and keep their curves, those that are not kept yet.

        Parameters
        ----------
        keep : Keep
            How many, by which metric.
        panel : Panel, optional
            As in `replay`.

        Returns
        -------
        int
            Curves written now.
        """
        if keep.equity.top == 0:
            return 0
        there = self._store.kept_curves()
        leaders = self.best(keep.equity.top, by=keep.equity.by).select("trial", "key").rows()
        missing = [(number, key) for number, key in leaders if key not in there]
        if missing and panel is not None:
            self._ready(panel)
        for number, key in missing:
            self._store.put_curve(key, self.replay(number).equity.to_arrow())
        return len(missing)

    def _table(self) -> pa.Table:
        self._store.refresh()
        count = len(self._store.committed())
        if self._rows is None or self._rows[0] != count:
            tables = list(self._store.tables())
            if not tables:
                raise StoreError(f"{self._store.uri} holds no rows yet", hint="run the sweep first")
            self._rows = (count, pa.concat_tables(tables))
        return self._rows[1]

    def _row(self, trial: int | str) -> dict[str, Any]:
        table = self._table()
        column = "key" if isinstance(trial, str) else "trial"
        known = isinstance(trial, str) or (type(trial) is int and 0 <= trial < self.plan.n_trials)
        rows = table.filter(pc.equal(table[column], trial)).to_pylist() if known else []
        if not rows:
            raise InputError(
                f"the study has no trial {trial!r}",
                hint=f"trials are 0 to {self.plan.n_trials - 1:,}, and {table.num_rows:,} of them have run",
            )
        return rows[0]

    def _ready(self, panel: Panel | None) -> SweepJob:
        if panel is not None:
            self._job = SweepJob(self.plan, panel)
        if self._job is None:
            ref = self.plan.panel_ref
            try:
                self._job = SweepJob(self.plan, Panel.open(ref["path"], ref["snapshot"]))
            except PanelError as error:
                raise PanelError(
                    f"the sweep's panel cannot be read: {error.message}",
                    faults=error.faults,
                    hint="restore it; if it only moved, tell study.replay(trial, panel=bf.Panel.open(path))",
                ) from None
        return self._job

    def __repr__(self) -> str:
        rows = sum(fragment.rows for fragment in self._store.committed().values())
        return f"Study({self._store.uri!r}, {rows:,} of {self.plan.n_trials:,} trials)"
