"""Where the rows of a study come from, and whether they are still what was written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from backtest_farm.errors import FarmError, InputError, StoreError
from backtest_farm.identity import digest_bytes
from backtest_farm.storage import open_storage
from backtest_farm.store import StudyStore, read_fragment
from backtest_farm.store.arrow_file import table_to_bytes
from backtest_farm.store.commit_log import REPAIR
from backtest_farm.store.history import History
from backtest_farm.store.repair import is_damaged
from backtest_farm.store.study_store import CURVES, QUARANTINE, read_spec

if TYPE_CHECKING:
    from backtest_farm.panel import Panel
    from backtest_farm.study.study import Study


def verify(study: Study, store: StudyStore, sample: int, panel: Panel | None) -> dict[str, Any]:
    """Check a study; see `Study.verify`."""
    faults: list[str] = []

    def checked(what: Callable[..., Any], *given: Any, **named: Any) -> Any:
        try:
            return what(*given, **named)
        except FarmError as error:
            faults.append(error.message)
            return None

    # Every record from the first one on, and no checkpoint in their place.
    storage = open_storage(store.uri)
    history = History(storage, checkpoints=False)
    checked(history.refresh)
    for entry in history.sweeps.values():
        checked(read_spec, storage, entry)
    fresh = checked(StudyStore, storage, store.sweep_id, history) or store
    every = [
        (sweep.sweep_id, one) for sweep in fresh.sweeps for one in fresh.committed(sweep.sweep_id).values()
    ]
    broken: set[str] = set()
    shown = []
    for sweep, one in every:
        # A damaged file is read and told once, however many atoms have rows in it.
        table = None if one.name in broken else checked(fresh.rows, one.atom, sweep)
        if table is None:
            broken.add(one.name)
        elif one.merged and digest_bytes(table_to_bytes(table)) != one.sha256:
            faults.append(f"{one.name}: the rows of atom {one.atom} are not those that were committed")
        elif sweep == fresh.sweep_id:
            shown.append(table.select(["trial", "key", "status"]))
    rows = pa.concat_tables(shown).to_pydict() if shown else {"trial": [], "key": [], "status": []}
    numbers = rows["trial"]
    if rows["key"] != study.plan.keys(numbers) or len(set(numbers)) != len(numbers):
        faults.append(f"{store.uri}: the keys of the rows are not those of the sweep's trials")
    faults += [f"{name} is damaged" for name in storage.list(f"{CURVES}/") if is_damaged(storage, name)]
    faults += [f"{name} does not fit the log, and is not used" for name in history.log.idle_checkpoints()]
    mend = REPAIR.format(store.uri) if faults else "run the sweep into a new folder, and compare"
    fine = [number for number, status in zip(numbers, rows["status"], strict=True) if status == "ok"]
    picked = fine[:: max(1, len(fine) // sample)][:sample] if sample > 0 else []
    for number in [] if faults else picked:
        try:
            study.replay(number, panel=panel, anew=True)
        except InputError as error:
            hint = f"every file is as it was written; {error.hint}"
            raise InputError(f"trials cannot run again: {error.message}", hint=hint) from error
        except FarmError as error:
            faults.append(error.message)
    if faults:
        raise StoreError(
            f"{store.uri} is not what was written",
            faults=list(dict.fromkeys(faults)),
            hint=mend,
        )
    if flag := fresh.flag():
        raise flag
    return {
        "commits": fresh.n_commits(),
        "sweeps": len(fresh.sweeps),
        "fragments": len(fresh.files()),
        "bytes": sum(fresh.files().values()),
        "rows": sum(one.rows for _, one in every),
        "replayed": picked,
        "unused": len({*storage.list("fragments/")} - fresh.files().keys()),
        "quarantined": len(storage.list(f"{QUARANTINE}/")),
    }


def explain(store: StudyStore) -> list[dict[str, Any]]:
    """Return where two results of an atom differ first; see `Study.explain`."""
    store.refresh()
    found = []
    for entry in store.sweeps:
        for atom, (one, other) in store.impure(entry.sweep_id).items():
            rows = store.rows(atom, entry.sweep_id)
            cells = _differing(rows, other.part(read_fragment(store.storage, other.name, other.file_sha256)))
            names = ("trial", "column", "counts", "other")
            # The digest differs wherever anything does, and says nothing of what.
            telling = [cell for cell in cells if cell[1] != "digest"] or cells
            first = dict(zip(names, telling[0], strict=True)) if cells else dict.fromkeys(names)
            trials, columns = ({cell[at] for cell in cells} for at in (0, 1))
            found.append(
                {
                    "sweep": entry.number,
                    "atom": atom,
                    **first,
                    "trials": len(trials),
                    "columns": sorted(columns),
                    "files": [one.name, other.name],
                }
            )
    return found


def _differing(one: pa.Table, other: pa.Table) -> list[tuple[int, str, Any, Any]]:
    """Return the cells of two results of an atom that differ, trial by trial: trial, column, both values."""
    left, right = one.to_pylist(), other.to_pylist()
    return [
        (row["trial"], name, row[name], beside.get(name))
        for row, beside in zip(left, right, strict=False)
        for name in row
        # As texts, in which NaN equals itself and -0.0 is not 0.0.
        if repr(row[name]) != repr(beside.get(name))
    ]


def provenance(study: Study, store: StudyStore) -> dict[str, Any]:
    """Return where rows come from; see `Study.provenance`."""
    notes = store.notes().values()
    ran = [atom for note in notes for atom in note.get("atoms", ())]
    versions: dict[str, set[str]] = {}
    for name, version in (each for note in notes for each in note.get("versions", {}).items()):
        versions.setdefault(name, set()).add(version)
    return {
        "store": store.uri,
        "panel": dict(study.plan.panel_ref),
        "sweep": study.plan.sweep_id,
        "sweeps": [entry.sweep_id for entry in store.sweeps],
        "created": [entry.created for entry in store.sweeps],
        "commits": store.n_commits(),
        "numerics": study.trials().select("numerics").unique().collect()["numerics"].to_list(),
        "versions": {name: ", ".join(sorted(found)) for name, found in sorted(versions.items())},
        "hosts": sorted({atom["host"] for atom in ran}),
        "digest": study.digest,
        "impure": sorted(store.impure()),
    }
