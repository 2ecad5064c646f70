"""Operations on an object store of which every fifth request goes wrong: each outcome is the right one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from random import Random

from backtest_farm.errors import StoreError
from backtest_farm.storage import AlreadyExists, Missing, S3Storage
from tests.storage.s3_double import BUCKET, Line, running, unreliable

TITLE = "operations on an object store, 20 % faults, whose outcome is a wrong one"
OPERATIONS = 50
LONG = 200
NAMES = [f"log/{n:08d}.json" for n in range(8)] + [f"fragments/a-{n}.arrow" for n in range(8)]
_open = ExitStack()


def cases() -> int:
    """Return how many seeds make 10,000 operations."""
    return LONG


def one(seed: int) -> str | None:
    """Do some operations and compare each with what a dictionary does."""
    line = _line()
    storage = S3Storage(f"s3://{BUCKET}/seed-{seed}")
    storage.put_new("first", b"tries the store before the line goes bad")
    storage.remove("first")
    with unreliable(line, seed):
        return next(wrong(storage, Random(seed)), None)


@cache
def _line() -> Line:
    return _open.enter_context(running())


def wrong(storage: S3Storage, rng: Random) -> Iterator[str]:
    """Say which operations had another outcome than on a dictionary."""
    there: dict[str, bytes] = {}
    for step in range(OPERATIONS):
        name = rng.choice(NAMES)
        what = rng.choices(["put", "race", "read", "list", "remove"], [6, 2, 3, 2, 1])[0]
        data = rng.randbytes(rng.randint(0, 2000))
        try:
            if what == "put":
                try:
                    storage.put_new(name, data)
                    was, there[name] = name in there, data
                except AlreadyExists:
                    was = name not in there
                if was:
                    yield f"step {step}: put of {name}, which was{'' if name in there else ' not'} there"
            elif what == "race":
                winners = race(storage, name, [rng.randbytes(100) for _ in range(3)])
                if len(winners) != (name not in there):
                    yield f"step {step}: {len(winners)} of three made {name}"
                there.update(dict.fromkeys([name], *winners[:1]) if winners else {})
            elif what == "read":
                try:
                    same = storage.read(name) == there.get(name)
                except Missing:
                    same = name not in there
                if not same:
                    yield f"step {step}: read of {name}"
            elif what == "list":
                folder = name.partition("/")[0]
                want = {one: len(data) for one, data in there.items() if one.startswith(folder)}
                if storage.sizes(f"{folder}/") != want:
                    yield f"step {step}: list of {folder}"
            else:
                storage.remove(name)
                there.pop(name, None)
        except StoreError as error:
            yield f"step {step}: {what} of {name}: {error.message}"


def race(storage: S3Storage, name: str, contents: list[bytes]) -> list[bytes]:
    """Put several contents at once and return those whose put succeeded."""
    won: list[bytes] = []

    def put(data: bytes) -> None:
        try:
            storage.put_new(name, data)
            won.append(data)
        except AlreadyExists:
            pass

    threads = [threading.Thread(target=put, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won
