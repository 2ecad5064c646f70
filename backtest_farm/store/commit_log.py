"""The commit log: numbered records, each naming the one before by its hash. What is in it has happened."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

from backtest_farm.errors import StoreError
from backtest_farm.identity import canonical_json, digest_bytes
from backtest_farm.storage import AlreadyExists, Storage

FORMAT = 1
PARTS = 2
"""Format of records in which rows may be a part of a file; everything else is the same."""

FOLDER = "log"
_NAME = re.compile(rf"{FOLDER}/\d{{8}}\.json")
_BEFORE_FIRST = "0" * 64


class CommitLog:
    """An append-only, hash-chained list of small JSON records.

    Record ``n`` is the file ``log/<n>.json``, created if absent: of two writers that want the same number one
    loses, reads what the other wrote and decides anew what is left to say. Each record carries a checksum of
    its own body and the sha256 of the previous file, so a changed or missing record is noticed. A missing
    *last* record cannot be noticed; its atoms merely run again.

    Parameters
    ----------
    storage : Storage
        The study's storage.

    Attributes
    ----------
    records : list of dict
        The bodies seen so far, in order; `refresh` looks for more.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.records: list[dict[str, Any]] = []
        self._tip = _BEFORE_FIRST

    def refresh(self) -> list[dict[str, Any]]:
        """Read and check the records that came since the last look, and return their bodies.

        Raises
        ------
        StoreError
            If a record is missing, damaged, does not follow from the one before, or is of a later format.
        """
        seen = len(self.records)
        names = self._storage.list(f"{FOLDER}/")
        if strange := [name for name in names if not _NAME.fullmatch(name)]:
            raise StoreError(
                f"{self._storage.uri}: the log holds files that are no records", faults=strange[:20]
            )
        for number, name in enumerate(names, start=1):
            if name != _name(number):
                raise StoreError(
                    f"{self._storage.uri}: commit record {_name(number)} is missing, {name} is there",
                    hint="restore the log from a copy: without it, it is not known which rows count",
                )
            if number > seen:
                self._take(number, self._storage.read(name))
        return self.records[seen:]

    def append(self, content: dict[str, Any], format: int = FORMAT) -> bool:
        """Add a record after those seen so far; `refresh` then shows what stands there.

        Parameters
        ----------
        content : dict
            Plain values.
        format : int
            The first format that knows them: versions that do not say so, instead of misreading them.

        Returns
        -------
        bool
            Whether it was added: False when another writer was faster.
        """
        number = len(self.records) + 1
        # By the nonce a writer recognises a record of its own making.
        own = {"format": format, "nonce": secrets.token_hex(8), "number": number, "previous": self._tip}
        body = {**content, **own}
        data = canonical_json({"body": body, "sha256": _checksum(body)}).encode()
        try:
            self._storage.put_new(_name(number), data)
        except AlreadyExists:
            # A lost answer of an object store looks like this too: then the record there is ours.
            return self._storage.read(_name(number)) == data
        return True

    def _take(self, number: int, data: bytes) -> None:
        where = f"{self._storage.uri}/{_name(number)}"
        try:
            record = json.loads(data)
            body = record["body"]
            whole = record["sha256"] == _checksum(body)
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise StoreError(f"{where} is damaged: its checksum does not fit its content")
        if body["format"] not in (FORMAT, PARTS):
            raise StoreError(
                f"{where} has format {body['format']}, this version reads up to {PARTS}",
                hint="open the study with the version that wrote it, or a later one",
            )
        if body["number"] != number or body["previous"] != self._tip:
            raise StoreError(
                f"{where} does not follow from the record before it: one of them was replaced",
                hint="restore the log from a copy",
            )
        self.records.append(body)
        self._tip = digest_bytes(data)


def _name(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _checksum(body: dict[str, Any]) -> str:
    return digest_bytes(canonical_json(body).encode())
