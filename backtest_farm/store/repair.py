"""Repair: a damaged study is made whole from what of it holds, and what does not hold is set aside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from backtest_farm.errors import FarmError, StoreError
from backtest_farm.identity import digest_bytes
from backtest_farm.storage import AlreadyExists, Missing, Storage
from backtest_farm.store.commit_log import FOLDER as LOG
from backtest_farm.store.commit_log import Damaged, line_of, opened
from backtest_farm.store.fragment import FOLDER as FRAGMENTS
from backtest_farm.store.fragment import Fragment, name_hash
from backtest_farm.store.history import History
from backtest_farm.store.recovery import Atoms, adopt, misfits, set_aside
from backtest_farm.store.study_store import CURVES, SWEEPS, StudyStore, quarantine

# Inside the class below, `list` is a method.
Names = list[str]


def repair(storage: Storage, plan_of: Callable[[str], Atoms], dry_run: bool = False) -> dict[str, Any]:
    """Mend log, fragments and curves of a study; see `backtest_farm.study.Study.repair`.

    Parameters
    ----------
    storage : Storage
        The study's.
    plan_of : callable
        From a sweep's frozen text to its plan.
    dry_run : bool
        Say what would be done, and do none of it.
    """
    if not storage.list(f"{LOG}/", 1) and not storage.list(f"{SWEEPS}/", 1):
        raise StoreError(f"{storage.uri} holds no study", hint="give the folder that a sweep was run into")
    if dry_run:
        storage = Rehearsal(storage)
    adopted: list[Fragment] = []
    lost: list[Fragment] = []
    unread = []
    with storage.hold(alone=True):
        history, fault = _mended(storage)
        records = sorted({*storage.list(f"{LOG}/")} - {*history.log.names})
        damaged = [name for name in storage.list(f"{FRAGMENTS}/") if is_damaged(storage, name)]
        others = [name for name in storage.list(f"{CURVES}/") if is_damaged(storage, name)]
        others += history.log.idle_checkpoints()
        for name in (*records, *others):
            quarantine(storage, name)
        for entry in history.sweeps.values():
            try:
                store = StudyStore(storage, entry.sweep_id, history)
                plan = plan_of(store.spec_json)
            except FarmError as error:
                unread.append(f"sweep {entry.number}: {error}")
                continue
            gone = misfits(store, storage.sizes(f"{FRAGMENTS}/"))
            lost += set_aside(store, [*damaged, *gone])[0]
            adopted += adopt(store, plan, storage.list(f"{FRAGMENTS}/"))[0]
    found = {one.sha256 for one in adopted}
    return {
        "fault": fault,
        "set_aside": [*records, *damaged, *others],
        "unread": unread,
        "rows": sum(one.rows for of in history.fragments.values() for one in of.values()),
        "rebuilt": sum(one.rows for one in adopted),
        "lost": sum(one.rows for one in lost if one.sha256 not in found),
    }


def is_damaged(storage: Storage, name: str) -> bool:
    """Say whether a file's content is not what its name says."""
    return not digest_bytes(storage.read(name)).startswith(name_hash(name))


def _mended(storage: Storage) -> tuple[History, str]:
    """Return the state of a study, in a log that is sound, and what was wrong with it."""
    history = History(storage, checkpoints=False)
    log = history.log
    try:
        history.refresh()
        ran = storage.list(f"{FRAGMENTS}/", 1) and storage.list(f"{SWEEPS}/", 1)
        if history.sweeps or not ran:
            return history, ""
        fault = f"{storage.uri}: there is no record"
    except Damaged as error:
        fault = error.message
    line, _ = line_of(storage.list(f"{LOG}/"))
    later = []
    for name in sorted({*line.values()} - {*log.names}):
        with contextlib.suppress(Damaged):
            later.append(opened(storage, name))
    texts = {name.split("/")[1].split("-")[0]: name for name in storage.list(f"{SWEEPS}/")}
    for record in sorted(later, key=lambda record: (record.get("epoch", 0), record["number"])):
        if record["kind"] == "rows" and record["sweep"] not in history.sweeps:
            history.take(_sweep(storage, record["sweep"], texts))
        history.take(record)
    # A sweep that no record tells of any more, but whose rows are there.
    have_rows = {name.split("/")[1].split("-")[0] for name in storage.list(f"{FRAGMENTS}/")}
    for sweep_id in texts.keys() - history.sweeps.keys():
        if sweep_id[:12] in have_rows:
            history.take(_sweep(storage, sweep_id, texts))
    log.restate(history.state())
    history.refresh()
    return history, fault


def _sweep(storage: Storage, sweep_id: str, texts: dict[str, str]) -> dict[str, Any]:
    """Return a record of a sweep, of which there is a frozen text at best."""
    name = texts.get(sweep_id, "")
    text = storage.read(name) if name else b""
    return {"kind": "sweep", "sweep": sweep_id, "spec_sha256": digest_bytes(text)}


class Rehearsal:
    """A storage whose changes stay in memory, to see what something would do.

    Parameters
    ----------
    below : Storage
        What is read, and never written.
    """

    def __init__(self, below: Storage) -> None:
        self._below = below
        self._new: dict[str, bytes] = {}
        self._removed: set[str] = set()

    @property
    def uri(self) -> str:
        """Where the storage below is."""
        return self._below.uri

    def put_new(self, name: str, data: bytes) -> None:
        """Create a file; see `Storage.put_new`."""
        if name in self.sizes(name):
            raise AlreadyExists(f"{self.uri}/{name} exists already")
        self._new[name] = data

    def read(self, name: str) -> bytes:
        """Return a file's content; see `Storage.read`."""
        if name in self._new:
            return self._new[name]
        if name in self._removed:
            raise Missing(f"{self.uri}/{name} is not there")
        return self._below.read(name)

    def list(self, prefix: str, limit: int | None = None) -> Names:
        """Return names; see `Storage.list`."""
        return sorted(self.sizes(prefix))[:limit]

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return sizes by names; see `Storage.sizes`."""
        there = {name: size for name, size in self._below.sizes(prefix).items() if name not in self._removed}
        return there | {name: len(data) for name, data in self._new.items() if name.startswith(prefix)}

    def remove(self, name: str) -> None:
        """Remove a file; see `Storage.remove`."""
        self._new.pop(name, None)
        self._removed.add(name)

    @contextlib.contextmanager
    def hold(self, *, alone: bool) -> Iterator[None]:
        """Nobody else is here; see `Storage.hold`."""
        yield
