"""The commit log: numbered records, each naming the one before by its hash. What is in it has happened."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from backtest_farm.errors import StoreError
from backtest_farm.identity import canonical_json, digest_bytes
from backtest_farm.storage import AlreadyExists, Missing, Storage

FORMAT = 1
PARTS = 2
"""Format of records in which rows may be a part of a file; everything else is the same."""
MENDED = 3
"""Format of records that take something back: lost rows, a state said again; or that flag two results."""

FOLDER, CHECKPOINTS = "log", "checkpoints"
_NAME = re.compile(rf"{FOLDER}/(\d{{8}})(?:-(\d{{4}}))?\.json")
_BEFORE_FIRST = "0" * 64
REPAIR = "backtest-farm study repair {} --dry-run says what can be saved; without it, that is done"
# Reads at the same time: on a disk it hardly matters, in an object store each takes its milliseconds.
_READERS = 8


class Damaged(StoreError):
    """A log is not as it was written."""


class CommitLog:
    """An append-only, hash-chained list of small JSON records.

    Record ``n`` is the file ``log/<n>.json``, created if absent: of two writers that want the same number one
    loses, reads what the other wrote and decides anew what is left to say. Each record carries a checksum of
    its own body and the sha256 of the previous file, so a changed or missing record is noticed. A missing
    *last* record cannot be noticed; its atoms merely run again.

    A repair starts an *epoch*: the record ``log/<n>-<epoch>.json`` says the whole state again, and takes the
    place of all records from number ``n`` on of the epochs before. It is one new file like any other record,
    so that a study is repaired or it is not, wherever the repair was cut off.

    A *checkpoint* is the state after some record, in a file beside the log that saves reading the records up
    to there. It counts only if it fits the record; without it nothing is lost but time.

    Parameters
    ----------
    storage : Storage
        The study's storage.
    checkpoints : bool
        Whether to start from a checkpoint; if not, every record is read and checked.

    Attributes
    ----------
    names : list of str
        The files of the records taken in so far, in order.
    epoch : int
        How often the log was repaired.
    """

    def __init__(self, storage: Storage, checkpoints: bool = True) -> None:
        self._storage, self._checkpoints = storage, checkpoints
        self.names: list[str] = []
        self.epoch = 0
        self._tip = _BEFORE_FIRST
        self._settled = ""

    def news(self) -> Iterator[dict[str, Any]]:
        """Read and check the records that came since the last look, and yield their bodies.

        The first may be a whole state instead, of a checkpoint. After a repair all records come again; of
        those, one says a whole state.

        Raises
        ------
        Damaged
            If a record is missing, damaged, or does not follow from the one before. The log then stands where
            it was sound.
        StoreError
            If a record is of a later format.
        """
        there = self._storage.list(f"{FOLDER}/")
        line, epoch = line_of(there)
        if epoch > self.epoch:
            self.names, self.epoch, self._tip = [], epoch, _BEFORE_FIRST
        if not self.names and self._checkpoints:
            yield from self._newest_checkpoint(line)
        names = list(line.values())
        seen = len(self.names)
        gap = next((at for at, number in enumerate(line, start=1) if at != number), None)
        if gap is None and names[:seen] != self.names:
            gap = seen
        yield from self._take(names[seen : gap and gap - 1])
        uri = self._storage.uri
        if gap is not None:
            raise Damaged(f"{uri}: commit record {_name(gap, 0)} is missing", hint=REPAIR.format(uri))
        if strange := [name for name in there if not _NAME.fullmatch(name)]:
            raise Damaged(
                f"{uri}: the log holds files that are no records", faults=strange, hint=REPAIR.format(uri)
            )

    def append(self, content: dict[str, Any], format: int = FORMAT) -> dict[str, Any] | None:
        """Add a record after those seen so far, and count it among them.

        Parameters
        ----------
        content : dict
            Plain values.
        format : int
            The first format that knows them: versions that do not say so, instead of misreading them.

        Returns
        -------
        dict or None
            Its body; None when another writer was faster, whose record `news` then shows.
        """
        return self._add(self.epoch, content, format)

    def settle(self) -> None:
        """Make sure that the newest record seen survives a crash, by whomever it is.

        Another driver's record can be seen before it is durable, and must not be counted on until then.
        """
        if self.names and self.names[-1] != self._settled:
            # A repair may have moved it away.
            with contextlib.suppress(AlreadyExists, Missing):
                self._storage.put_new(self.names[-1], self._storage.read(self.names[-1]))
            self._settled = self.names[-1]

    def restate(self, state: dict[str, Any]) -> None:
        """Begin a new epoch after the records seen so far: those behind them count no more.

        Raises
        ------
        StoreError
            If somebody else wrote to the log meanwhile.
        """
        _, epoch = line_of(self._storage.list(f"{FOLDER}/"))
        if self._add(epoch + 1, state, MENDED) is None:
            raise StoreError(f"{self._storage.uri} changed meanwhile", hint="look again: it may be mended")

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Keep the state after the records seen so far, beside them."""
        number = len(self.names)
        body = {**state, "number": number, "epoch": self.epoch, "format": MENDED, "previous": self._tip}
        # It saves time and nothing else: who cannot write it, or finds it written, goes on.
        with contextlib.suppress(StoreError):
            self._storage.put_new(f"{CHECKPOINTS}/{number:08d}-{self.epoch:04d}.json", _sealed(body))

    def _add(self, epoch: int, content: dict[str, Any], format: int) -> dict[str, Any] | None:
        self.settle()
        number = len(self.names) + 1
        # By the nonce a writer recognises a record of its own making.
        own = {"format": format, "nonce": secrets.token_hex(8), "number": number, "previous": self._tip}
        if epoch:
            own["epoch"] = epoch
        body = {**content, **own}
        data, name = _sealed(body), _name(number, epoch)
        try:
            self._storage.put_new(name, data)
        except AlreadyExists:
            # A lost answer of an object store looks like this too: then the record there is ours.
            if self._storage.read(name) != data:
                return None
        self.names.append(name)
        self._tip, self._settled = digest_bytes(data), name
        return body

    def _take(self, names: list[str]) -> Iterator[dict[str, Any]]:
        with ThreadPoolExecutor(_READERS) if len(names) > _READERS else contextlib.nullcontext() as pool:
            read: Iterable[bytes] = (pool.map if pool else map)(self._storage.read, names)
            for name, data in zip(names, read, strict=True):
                body = opened(self._storage, name, data)
                if (body["number"], body["previous"]) != (len(self.names) + 1, self._tip):
                    raise Damaged(
                        f"{self._storage.uri}/{name} does not follow from the record before it: one of them "
                        "was replaced",
                        hint=REPAIR.format(self._storage.uri),
                    )
                self.names.append(name)
                self._tip = digest_bytes(data)
                yield body

    def idle_checkpoints(self) -> list[str]:
        """Return the checkpoints that do not fit the records seen so far, and so are never used."""
        names = dict(enumerate(self.names, start=1))
        return [file for file in self._storage.list(f"{CHECKPOINTS}/") if not self._fitting(file, names)]

    def _newest_checkpoint(self, line: dict[int, str]) -> Iterator[dict[str, Any]]:
        for file in reversed(self._storage.list(f"{CHECKPOINTS}/")):
            if state := self._fitting(file, line):
                self.names, self._tip = list(line.values())[: state["number"]], state["previous"]
                yield state
                return

    def _fitting(self, file: str, line: dict[int, str]) -> dict[str, Any] | None:
        with contextlib.suppress(StoreError):
            state = opened(self._storage, file)
            name = line.get(state["number"])
            if name and digest_bytes(self._storage.read(name)) == state["previous"]:
                return state
        return None


def checkpoint_due(number: int) -> bool:
    """Say whether the state after this record is worth a file: every 256th, more seldom in a long log.

    A state grows with the log. So its files take some 64 times the last one's size at most, and whoever opens
    the study reads a fraction of its records.
    """
    return number % 2 ** max(8, number.bit_length() - 6) == 0


def line_of(there: Iterable[str]) -> tuple[dict[int, str], int]:
    """Return which of the files of a log count, by and in order of their numbers, and the newest epoch.

    An epoch's records take the place of all those of earlier epochs from its first number on.
    """
    epochs: dict[int, dict[int, str]] = {0: {}}
    for match in filter(None, map(_NAME.fullmatch, there)):
        epochs.setdefault(int(match[2] or 0), {})[int(match[1])] = match[0]
    line: dict[int, str] = {}
    for _, records in sorted(epochs.items()):
        first = min(records, default=0)
        line = {number: name for number, name in line.items() if number < first} | records
    return dict(sorted(line.items())), max(epochs)


def opened(storage: Storage, name: str, data: bytes | None = None) -> dict[str, Any]:
    """Return the body of a record or checkpoint, whose checksum fits and whose format is known; it is read
    unless its content is given.

    Raises
    ------
    Damaged, StoreError
        If the one is not so; if the other.
    """
    where, data = f"{storage.uri}/{name}", storage.read(name) if data is None else data
    # The text itself is hashed: a body that was parsed and written again would take ten times as long.
    head, body, between, told, tail = data[:8], data[8:-77], data[-77:-66], data[-66:-2], data[-2:]
    if (head, between, tail) != (b'{"body":', b',"sha256":"', b'"}') or digest_bytes(body).encode() != told:
        raise Damaged(
            f"{where} is damaged: its checksum does not fit its content", hint=REPAIR.format(storage.uri)
        )
    values = json.loads(body)
    if values["format"] not in (FORMAT, PARTS, MENDED):
        raise StoreError(
            f"{where} has format {values['format']}, this version reads up to {MENDED}",
            hint="open the study with the version that wrote it, or a later one",
        )
    return values


def _name(number: int, epoch: int) -> str:
    return f"{FOLDER}/{number:08d}{f'-{epoch:04d}' if epoch else ''}.json"


def _sealed(body: dict[str, Any]) -> bytes:
    text = canonical_json(body)
    return f'{{"body":{text},"sha256":"{digest_bytes(text.encode())}"}}'.encode()
