"""Study: the results of sweeps, read from their store."""

from __future__ import annotations

import hashlib
import os
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from backtest_farm.backtest import Result
from backtest_farm.backtest.single import run_one
from backtest_farm.errors import FarmError, InputError, PanelError, StoreError, nearest
from backtest_farm.farm import RunSummary
from backtest_farm.farm.job import SweepJob
from backtest_farm.farm.loop import in_short
from backtest_farm.kernel.summary import METRICS
from backtest_farm.panel import Panel
from backtest_farm.spec import Keep
from backtest_farm.storage import open_storage
from backtest_farm.store import StudyStore, compact, repair
from backtest_farm.sweep import Plan

if TYPE_CHECKING:
    import polars as pl

SMALLER_IS_BETTER = frozenset({"volatility", "turnover", "costs", "kurtosis", "orders", "fills"})
"""Metrics of which the smallest values lead a ranking; drawdown is negative, so its largest lead."""


ENDED = ("crashed", "timeout", "oom")
"""Statuses of trials that ended the process that ran them; another time they may come through."""


_PART_ROWS = 2**18
"""Rows that a query over all trials is given at a time."""


def analysis(name: str) -> Callable[..., Any]:
    """Return ``module:function`` of the analysis room: it lies above this one, and is loaded on demand."""
    return pkgutil.resolve_name(f"backtest_farm.analysis.{name}")


class Study:
    """A study, seen as one sweep of its history: rows of all trials, kept curves, any trial again on demand.

    Use `Study.open`; `Sweep.run` returns one too.
    """

    def __init__(self, store: StudyStore, run: RunSummary | None = None) -> None:
        self._store = store
        self._run = run or RunSummary()
        self.plan = Plan.from_json(store.spec_json)
        self._rows: tuple[list[Any], pa.Table] | None = None
        self._job: SweepJob | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str], sweep: str | int | None = None) -> Study:
        """Open the study in a folder.

        Parameters
        ----------
        path : str or path
        sweep : str or int, optional
            Which sweep of its history: digest, or first digits of it, or number (see `sweeps`); the newest
            when not given.

        Raises
        ------
        StoreError
            If there is none, or it is damaged.
        InputError
            If it holds no such sweep.
        """
        return cls(StudyStore.open(path, sweep))

    def sweeps(self) -> pl.DataFrame:
        """Return the study's history, one row a sweep: number, sweep (its id), trials, committed, failed,
        reused (committed rows that were copied, from other sweeps or from equal trials of the same one, and
        not run), created (UTC)."""
        import polars as pl

        self._store.refresh()
        rows = []
        for entry in self._store.sweeps:
            there = self._store.committed(entry.sweep_id).values()
            counts = [sum(getattr(one, name) for one in there) for name in ("rows", "failed", "copied")]
            rows.append((entry.number, entry.sweep_id, entry.n_trials, *counts, entry.created))
        names = ["number", "sweep", "trials", "committed", "failed", "reused", "created"]
        return pl.DataFrame(rows, schema=names, orient="row")

    def trials(self) -> pl.LazyFrame:
        """Return one row a trial, in order of trial numbers.

        Columns: trial, key, sweep, profile, universe, fold, window_start, window_end, numerics, status,
        error, digest, the axes by their dotted paths (null where a trial has no such parameter), bars,
        bars_per_year, segment_bars, the metrics (null where a trial failed, NaN where undefined), the reason
        counters, and per-segment sums of returns.

        The rows are those that were committed at the time of the call, also when a sweep is running. Files
        are mapped, and checked once by this process; a query reads the columns that it names.
        """
        import polars as pl
        from polars.io.plugins import register_io_source

        table = self._table()

        def read(
            columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_rows: int | None
        ) -> Iterator[pl.DataFrame]:
            wanted = table if columns is None else table.select(columns)
            # Whoever streams a large study sees part after part of it.
            for first in range(0, min(table.num_rows, n_rows or table.num_rows), _PART_ROWS):
                rows = min(_PART_ROWS, (n_rows or table.num_rows) - first)
                part = pl.DataFrame(wanted.slice(first, rows).combine_chunks())
                yield part if predicate is None else part.filter(predicate)

        schema = pl.DataFrame(table.slice(0, 0)).schema
        return register_io_source(read, schema=schema, is_pure=True)

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
        if by not in METRICS:
            raise InputError(f"{by!r} is no metric: {nearest(by, METRICS)}")
        if not isinstance(n, int) or n < 1:
            raise InputError(f"n is {n!r}: ask for a whole number of trials, at least 1")
        n = min(n, self.plan.n_trials)
        ranked = self.trials().filter(status="ok").drop_nans(by)
        return ranked.sort([by, "trial"], descending=[by not in SMALLER_IS_BETTER, False]).head(n).collect()

    def ranking_shift(self, over: str = "fill", by: str = "sharpe", top: int = 20) -> pl.DataFrame:
        """Return how much the ranking of trials depends on an assumption that the sweep varies.

        Trials that are equal but for `over` are compared: a strategy that leads only under one way of
        filling orders leads by that way.

        Parameters
        ----------
        over : str, default "fill"
            The axis, such as ``fill``, ``profile`` or ``costs.commission_bps``.
        by : str, default "sharpe"
            The metric that ranks.
        top : int, default 20
            How many leaders are followed.

        Returns
        -------
        polars.DataFrame
            One row for each two values: from, to, trials (that have a value under both),
            rank_correlation (Spearman), top, stay (of the leaders under `from`, those that lead under `to`
            too), leave (the numbers of the others).

        Raises
        ------
        InputError
            If the sweep does not vary `over`, or nothing else; or there is no such metric.
        """
        return analysis("semantics:ranking_shift")(self, over, by, top)

    def failures(self) -> pl.DataFrame:
        """Return the trials without a result: trial, key, universe, status, error, and their parameters."""
        names = dict.fromkeys(["trial", "key", "universe", "status", "error", *self.plan.columns])
        return self.trials().remove(status="ok").select(*names).collect()

    def trial(self, trial: int | str) -> dict[str, Any]:
        """Return one row as a dict.

        Parameters
        ----------
        trial : int or str
            Number or key.

        Raises
        ------
        InputError
            If no such trial has run.
        """
        table = self._table()
        column = "key" if isinstance(trial, str) else "trial"
        known = isinstance(trial, str) or (type(trial) is int and 0 <= trial < self.plan.n_points)
        rows = table.filter(pc.equal(table[column], trial)).to_pylist() if known else []
        if not rows:
            raise InputError(
                f"the study has no trial {trial!r}",
                hint=f"trials are 0 to {self.plan.n_points - 1:,}, and {table.num_rows:,} of them have run",
            )
        return rows[0]

    def equity(self, trial: int | str) -> pl.DataFrame:
        """Return the curve of a trial: the kept one, or a replay's when none is kept.

        Parameters
        ----------
        trial : int or str
            Number or key.
        """
        import polars as pl

        row = self.trial(trial)
        kept = self._store.get_curve(row["key"])
        return self.replay(row["trial"]).equity if kept is None else pl.DataFrame(kept)

    def replay(
        self, trial: int | str, *, panel: Panel | str | os.PathLike[str] | None = None, anew: bool = False
    ) -> Result:
        """Run one trial again, with curve and ledger, and check it against the stored digest.

        Parameters
        ----------
        trial : int or str
            Number or key.
        panel : Panel, str or path, optional
            Where the sweep's data is now, if it moved; it must hold the same data.
        anew : bool, default False
            Call ``signal`` of a class of one's own again, instead of taking what this machine keeps of it.

        Raises
        ------
        StoreError
            If the replay's digest is not the stored one.
        PanelError
            If the panel is gone or holds other data.
        """
        row = self.trial(trial)
        number = row["trial"]
        if row["status"] in ENDED:
            raise InputError(
                f"trial {number} ended the process that ran it ({row['error']}), and would end this one",
                hint="mend it, then run the sweep again with retry_failed=True (--retry-failed)",
            )
        job, spec = self._ready(_opened(panel)), self.plan.trial(row["trial"])
        try:
            result = run_one(job.panel, job.window, spec, self.plan.universe(number), job.depth, not anew)
        except FarmError:
            raise
        except Exception as error:
            raise InputError(
                f"trial {number} raises {in_short(error)} (stored: {row['error'] or 'a result'})",
                hint="mend what raises, then run the sweep again with retry_failed=True (--retry-failed)",
            ) from error
        if result.digest != row["digest"]:
            raise StoreError(
                f"trial {number} gives digest {result.digest[:12]} now, but {row['digest'][:12]} is stored",
                hint="package or machine changed what comes out, or a strategy of one's own draws, looks at "
                "the clock or keeps state: run the sweep into a new study and compare (study diff)"
                if row["status"] == "ok"
                else "it failed when it ran: run the sweep again with retry_failed=True (--retry-failed)",
            )
        result.check_ledger()
        return result

    @property
    def uri(self) -> str:
        """Where the study is."""
        return self._store.uri

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
        """Return counts: trials of the sweep, rows by status, and what the run that made this object did.

        ``executed`` trials were simulated by it, ``duplicates`` copied from equal trials of the same sweep;
        ``reused`` are all others: copied from other sweeps, or there before.
        """
        states = Counter(self._table()["status"].to_pylist())
        run, committed = self._run, states.total()
        return {
            "trials": self.plan.n_trials,
            "committed": committed,
            "ok": states["ok"],
            **{name: states[name] for name in ("error", *ENDED)},
            "executed": run.n_executed,
            "reused": committed - run.n_executed - run.n_duplicates,
            "duplicates": run.n_duplicates,
            "seconds": run.seconds,
            "executor": run.executor,
            "workers": run.workers,
            "factors": self.plan.n_factors,
            **{name: run.counters[name] for name in ("factor_builds", "rank_builds", "rank_reuses")},
            "stage_seconds": dict(run.stage_seconds),
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
        for number, key in missing:
            self._store.put_curve(key, self.replay(number, panel=panel).equity.to_arrow())
        return len(missing)

    def verify(
        self, sample: int = 0, *, panel: Panel | str | os.PathLike[str] | None = None
    ) -> dict[str, Any]:
        """Check everything: the chain of commits, every file against its hash, every atom's rows against the
        hash that was committed, their keys against the plan; and whether any atom gave two results.

        Parameters
        ----------
        sample : int, default 0
            How many trials to run again and compare, spread evenly over the sweep.
        panel : Panel, str or path, optional
            As in `replay`.

        Returns
        -------
        dict
            What was checked: ``commits``, ``sweeps``, ``fragments``, ``bytes``, ``rows``, ``replayed`` (trial
            numbers), ``unused``: files that no record counts, left by interruptions and retries, and
            ``quarantined``: damaged files that were set aside.

        Raises
        ------
        StoreError
            If anything is not as it was written, with all faults at once.
        InputError
            If `sample` is no number of trials.
        """
        if not isinstance(sample, int) or sample < 0:
            raise InputError(f"sample is {sample!r}: give a whole number of trials, 0 or more")
        panel = _opened(panel)
        return analysis("audit:verify")(self, self._store, sample, panel)

    @staticmethod
    def repair(path: str | os.PathLike[str], *, dry_run: bool = False) -> dict[str, Any]:
        """Mend a study whose log, rows or kept curves are damaged or missing.

        What holds by its hash is kept, in a new record where the log is damaged; rows that no record tells of
        any more are found again in their files. Damaged files are moved into ``quarantine/`` in the study,
        nothing is deleted. Trials whose rows are lost run again with the next run of their sweep.

        Parameters
        ----------
        path : str or path
            The study.
        dry_run : bool, default False
            Say what would be done, and change nothing.

        Returns
        -------
        dict
            ``fault``, what was wrong with the log, or empty; ``set_aside``, files; ``rows`` that count now;
            of these ``rebuilt`` ones, which counted no more, and ``lost`` ones, which have to run again;
            ``unread``, sweeps whose frozen text is missing or damaged.

        Raises
        ------
        StoreError
            If there is no study, something runs on it, or a later version wrote it.
        """
        return repair(open_storage(path), Plan.from_json, dry_run)

    def explain(self) -> list[dict[str, Any]]:
        """Return where two results of an atom differ, for each atom of any sweep that gave two.

        Returns
        -------
        list of dict
            ``sweep``, ``atom``; ``trial``, ``column`` and the two values (``counts``, ``other``) of the first
            cell that differs; how many ``trials``, and which ``columns`` differ; the two ``files``.
        """
        return analysis("audit:explain")(self._store)

    def compact(self) -> dict[str, int]:
        """Merge the small files of all sweeps of the study into few large ones, which open faster.

        Rows, their order, curves, digests and history stay as they are. A study that was being read goes on;
        a process that is killed in between leaves the study as it was or as it will be.

        Returns
        -------
        dict
            ``fragments_before`` and ``fragments_after``, files in which rows of any sweep lie; their
            ``bytes_before`` and ``bytes_after``; ``removed``, files whose rows lie elsewhere now: 0 says that
            there was nothing to do.

        Raises
        ------
        StoreError
            If a sweep is running on the study, or a file is damaged; then nothing was removed.
        """
        return compact(self._store)

    def export(self, path: str | os.PathLike[str], kind: str | None = None) -> int:
        """Write all rows to one file and return their number; see `backtest_farm.analysis.export.export`.

        Parameters
        ----------
        path : str or path
            Ends in ``.parquet``, ``.arrow``, ``.csv``, or ``.delta`` for a Delta table. A CSV file has no
            segment columns, and a text in it that a spreadsheet would take for a formula starts with an
            apostrophe.
        kind : {"parquet", "arrow", "csv", "delta"}, optional
            The format, where the path does not end in it.
        """
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"{path!r} is no file to write", hint="give its path")
        return analysis("export:export")(self.trials(), Path(path), kind)

    def diff(
        self, a: int | str | None = None, b: int | str | None = None, other: Any = None, **panels: Any
    ) -> dict[str, Any]:
        """Compare two trials, or two studies.

        Parameters
        ----------
        a, b : int or str, optional
            Two trials, by number or key; `b` is one of `other` where that is given, and `a` there when left
            out. Without any the studies are compared.
        other : Study, str or path, optional
            Another study, or another sweep of this one.
        panel, other_panel : Panel, str or path, optional
            As in `replay`.

        Returns
        -------
        dict
            Of trials: ``trials``; ``same`` (equal digests); ``inputs`` and ``data``, what differs in what
            they were given; ``decision``, ``fill`` and ``bar``, the first decision, fill and bar of the
            curves that differ, found by running both again; ``outcomes``; ``pnl``, the difference of final
            equity (b less a) by symbol; and ``equity``, its parts that belong to no symbol beside.

            Of studies: ``stores``, ``inputs``, ``counts``; ``matched by``, the columns that find a trial in
            the other study where its key is not there; ``changed`` (pairs), ``only in a``, ``only in b``;
            ``metrics``, how far each moved.

        Raises
        ------
        InputError
            If a trial is unknown or failed, or there is nothing to compare with.
        StoreError
            If a replay's digest is not the stored one.
        """
        return analysis("diff:diff")(self, a, b, other, **panels)

    def provenance(self) -> dict[str, Any]:
        """Return where the rows come from: panel, sweeps, numerics, commits, hosts, versions."""
        return analysis("audit:provenance")(self, self._store)

    def plot(self, *what: Any, **how: Any) -> Any:
        """Draw a metric over one or two parameters: ``study.plot("n", "rebalance", metric="sharpe")``; see
        `backtest_farm.analysis.plot_study`."""
        return analysis("figures:plot_study")(self, *what, **how)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write one self-contained HTML file about this study, and return its path."""
        return analysis("study_report:report_study")(self, path)

    def _table(self) -> pa.Table:
        self._store.refresh()
        stamp = self._store.checked.stamp
        there = [(one.sha256, stamp(one.name)) for one in self._store.committed().values()]
        if not there:
            raise StoreError(f"{self._store.uri} holds no rows yet", hint="run the sweep first")
        if self._rows is None or self._rows[0] != there:
            # Mapped, not read; a version that knew fewer columns leaves nulls in the others.
            self._rows = there, pa.concat_tables(self._store.tables(), promote_options="default")
        return self._rows[1]

    def _ready(self, panel: Panel | None) -> SweepJob:
        if panel is not None and (self._job is None or self._job.panel is not panel):
            self._job = SweepJob(self.plan, panel)
        if self._job is None:
            ref = self.plan.panel_ref
            try:
                self._job = SweepJob(self.plan, Panel.open(ref["path"], ref["snapshot"]))
            except PanelError as error:
                raise PanelError(
                    f"the sweep's panel cannot be read: {error.message}",
                    faults=error.faults,
                    hint="restore it; if it only moved, tell study.replay(trial, panel=path)",
                ) from None
        return self._job

    def __repr__(self) -> str:
        rows = sum(fragment.rows for fragment in self._store.committed().values())
        return f"Study({self._store.uri!r}, {rows:,} of {self.plan.n_trials:,} trials)"


def _opened(panel: Any) -> Panel | None:
    """Return a panel that may be given by its path."""
    if panel is None or isinstance(panel, Panel):
        return panel
    if isinstance(panel, str | os.PathLike):
        return Panel.open(panel)
    raise InputError(f"{panel!r} is no panel", hint="give a Panel, or the path of one")
