"""Where the rows of a study come from, and whether they are still what was written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from backtest_farm.errors import FarmError, InputError, StoreError
from backtest_farm.store import StudyStore

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

    # Opened anew, so that the log is read from its first record, and the spec from its file.
    fresh = checked(StudyStore.open, store.uri, store.sweep_id) or store
    shown, broken = [], set()
    every = [
        (sweep.sweep_id, one) for sweep in fresh.sweeps for one in fresh.committed(sweep.sweep_id).values()
    ]
    for sweep, one in every:
        # A damaged file is read and told once, however many atoms have rows in it.
        table = None if one.name in broken else checked(fresh.rows, one.atom, sweep)
        if table is None:
            broken.add(one.name)
        elif sweep == fresh.sweep_id:
            shown.append(table.select(["trial", "key", "status"]))
    rows = pa.concat_tables(shown).to_pydict() if shown else {"trial": [], "key": [], "status": []}
    numbers = rows["trial"]
    if rows["key"] != study.plan.keys(numbers) or len(set(numbers)) != len(numbers):
        faults.append(f"{store.uri}: the keys of the rows are not those of the sweep's trials")
    fine = [number for number, status in zip(numbers, rows["status"], strict=True) if status == "ok"]
    picked = fine[:: max(1, len(fine) // sample)][:sample] if sample > 0 else []
    for number in [] if faults else picked:
        try:
            study.replay(number, panel=panel)
        except InputError as error:
            hint = f"every file is as it was written; {error.hint}"
            raise InputError(f"trials cannot run again: {error.message}", hint=hint) from error
        except FarmError as error:
            faults.append(error.message)
    if faults:
        raise StoreError(
            f"{store.uri} is not what was written",
            faults=faults,
            hint="restore these files from a copy, or run the sweep into a new folder",
        )
    return {
        "commits": fresh.n_commits(),
        "sweeps": len(fresh.sweeps),
        "fragments": len(fresh.files()),
        "bytes": sum(fresh.files().values()),
        "rows": sum(one.rows for _, one in every),
        "replayed": picked,
        "unused": len({*store.storage.list("fragments/")} - fresh.files().keys()),
    }


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
    }
