"""The commit log: numbered records, each naming the one before by its hash. What is in it has happened."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from typing import Any

from backtest_farm.errors import StoreError
from backtest_farm.identity import canonical_json, digest_bytes
from backtest_farm.storage import AlreadyExists, Storage

FORMAT = 1
FOLDER = "log"
_NAME = re.compile(rf"{FOLDER}/(\d{{8}})\.json")
_BEFORE_FIRST = "0" * 64


class CommitLog:
    """An append-only, hash-chained list of small JSON records.

    Record ``n`` is the file ``log/<n>.json``, created if absent: of two writers that want the same number one
    loses, reads what the other wrote and tries again with what is left to say. Each record carries a checksum
    of its own body and the sha256 of the previous file, so a changed or missing record is noticed. A missing
    *last* record cannot be noticed; its atoms merely run again.

    Parameters
    ----------
    storage : Storage
        The study's storage.
    nonce : callable, optional
        Gives each writer's record a value of its own, by which it recognises a record of its making.
    """

    def __init__(self, storage: Storage, nonce: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        self._storage = storage
        self._nonce = nonce
        self._records: list[dict[str, Any]] = []
        self._tip = _BEFORE_FIRST

    @property
    def records(self) -> list[dict[str, Any]]:
        """The bodies seen so far, in order; `refresh` looks for more."""
        return list(self._records)

    def refresh(self) -> list[dict[str, Any]]:
        """Read and check the records that came since the last look, and return their bodies.

        Raises
        ------
        StoreError
            If a record is missing, damaged, does not follow from the one before, or is of a later format.
        """
        seen = len(self._records)
        for number in self._numbers()[seen:]:
            self._take(number, self._storage.read(_name(number)))
        return self._records[seen:]

    def append(self, content: Callable[[], dict[str, Any] | None]) -> bool:
        """Add one record.

        Parameters
        ----------
        content : callable
            Returns the record's content given all records up to now, or None when nothing is left to say. It
            is asked again whenever another writer was faster.

        Returns
        -------
        bool
            Whether a record was written.
        """
        while True:
            said = content()
            if said is None:
                return False
            number = len(self._records) + 1
            body = {**said, "format": FORMAT, "nonce": self._nonce(), "number": number, "previous": self._tip}
            data = canonical_json({"body": body, "sha256": _checksum(body)}).encode()
            try:
                self._storage.put_new(_name(number), data)
            except AlreadyExists:
                # A lost answer of an object store looks like this too: then the record there is ours.
                if self._storage.read(_name(number)) != data:
                    self.refresh()
                    continue
            self._take(number, data)
            return True

    def _numbers(self) -> list[int]:
        names = self._storage.list(f"{FOLDER}/")
        strange = [name for name in names if not _NAME.fullmatch(name)]
        if strange:
            raise StoreError(
                f"{self._storage.uri}: the log holds files that are no records", faults=strange[:20]
            )
        numbers = [int(match[1]) for name in names if (match := _NAME.fullmatch(name))]
        for place, number in enumerate(numbers, start=1):
            if number != place:
                raise StoreError(
                    f"{self._storage.uri}: commit record {_name(place)} is missing, {_name(number)} is there",
                    hint="restore the log from a copy: without it, it is not known which rows count",
                )
        return numbers

    def _take(self, number: int, data: bytes) -> None:
        where = f"{self._storage.uri}/{_name(number)}"
        try:
            record = json.loads(data)
            body, checksum = record["body"], record["sha256"]
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{where} is damaged: it is not a commit record") from None
        if not isinstance(body, dict) or _checksum(body) != checksum:
            raise StoreError(f"{where} is damaged: its checksum does not fit its content")
        if body.get("format") != FORMAT:
            raise StoreError(
                f"{where} has format {body.get('format')}, this version reads {FORMAT}",
                hint="open the study with the version that wrote it, or a later one",
            )
        if body["number"] != number or body["previous"] != self._tip:
            raise StoreError(
                f"{where} does not follow from the record before it: one of them was replaced",
                hint="restore the log from a copy",
            )
        self._records.append(body)
        self._tip = digest_bytes(data)


def _name(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _checksum(body: dict[str, Any]) -> str:
    return digest_bytes(canonical_json(body).encode())
