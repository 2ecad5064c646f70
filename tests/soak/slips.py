"""Small slips put into the store, one at a time: would the suites of this folder notice?

A slip is a change of one place in a source file. The changed function takes the place of the real one, in
this process, for as long as it is looked at.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from itertools import chain, count, islice
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import NamedTuple

from backtest_farm.storage import S3Storage, s3
from tests.soak import crashes, damage
from tests.soak import s3 as operations
from tests.storage.s3_double import BUCKET, unreliable

PACKAGE = "backtest_farm"
_places = count()


class Slip(NamedTuple):
    """What is done wrong, where, by which change, and who should notice."""

    name: str
    module: str
    old: str
    new: str
    suite: str


SLIPS = (
    Slip(
        "a file gets its name before it is synced",
        "storage.local",
        "                self._system.fsync(handle)\n            finally",
        "                pass\n            finally",
        "crashes",
    ),
    Slip(
        "the folder of a new name is not synced",
        "storage.local",
        "            sync_folder(target.parent, self._system)\n        finally",
        "            pass\n        finally",
        "crashes",
    ),
    Slip(
        "the folder of a new folder is not synced",
        "storage.local",
        "            sync_folder(folder.parent, self._system)",
        "            pass",
        "crashes",
    ),
    Slip(
        "a name that is there is replaced",
        "storage.local",
        "self._put(target, data, self._system.link)",
        "self._put(target, data, self._system.replace)",
        "crashes",
    ),
    Slip(
        "what another writer has made is taken to be durable",
        "storage.local",
        "                self._put(target, self._read(target), self._system.replace)\n",
        "",
        "crashes",
    ),
    Slip(
        "a sync that failed is tried again and then believed",
        "storage.local",
        "                self._system.fsync(handle)\n            finally",
        "                with contextlib.suppress(OSError):\n"
        "                    self._system.fsync(handle)\n"
        "                self._system.fsync(handle)\n            finally",
        "fsync",
    ),
    Slip(
        "a write that was cut short is not gone on with",
        "storage.local",
        "                while left:\n                    left = left[",
        "                if left:\n                    left = left[",
        "crashes",
    ),
    Slip(
        "what cannot be listed counts as empty",
        "storage.local",
        "        raise error\n",
        "        return\n",
        "list",
    ),
    Slip(
        "a file's hash is not compared",
        "store.arrow_file",
        "if not found.startswith(sha256):",
        "if False:",
        "damage",
    ),
    Slip(
        "a record's checksum is not compared",
        "store.commit_log",
        " or digest_bytes(body).encode() != told:",
        ":",
        "damage",
    ),
    Slip(
        "a record need not follow from the one before",
        "store.commit_log",
        'if (body["number"], body["previous"]) != (len(self.names) + 1, self._tip):',
        "if False:",
        "damage",
    ),
    Slip(
        "a sweep's text is not compared with its hash",
        "store.study_store",
        "    if digest_bytes(text) != entry.spec_sha256:",
        "    if False:",
        "damage",
    ),
    Slip(
        "of a number that is taken the record there is thought to be one's own",
        "store.commit_log",
        "            if self._storage.read(name) != data:\n                return None",
        "            pass",
        "crashes",
    ),
    Slip(
        "a record is appended to one that may vanish",
        "store.commit_log",
        "        self.settle()\n        number",
        "        number",
        "cut in",
    ),
    Slip(
        "a fragment that is there already is not looked into",
        "store.fragment",
        "        table_from_bytes(storage.read(name), sha256, name, REPAIR.format(storage.uri))",
        "        pass",
        "torn",
    ),
    Slip(
        "rows that were found are adopted without making them durable",
        "store.recovery",
        "        keep(store.storage, name, data)\n",
        "",
        "cut in",
    ),
    Slip(
        "small files are removed before a record says where their rows are",
        "store.compaction",
        "                store.move(entry.sweep_id, moved)",
        "                for one in store.files():\n"
        "                    store.storage.remove(one)\n"
        "                store.move(entry.sweep_id, moved)",
        "crashes",
    ),
    Slip(
        "an object store is not tried for conditional puts",
        "storage.s3",
        "        self._probe()\n",
        "",
        "ignorant",
    ),
    Slip(
        "a put carries no condition",
        "storage.s3",
        'mode="create"',
        'mode="overwrite"',
        "operations",
    ),
    Slip(
        "after an answer that got lost, what is there counts as somebody else's",
        "storage.s3",
        "if not (lost and found == data):",
        "if True:",
        "operations",
    ),
    Slip(
        "after an answer that got lost, what is there counts as one's own",
        "storage.s3",
        "if not (lost and found == data):",
        "if not lost:",
        "operations",
    ),
    Slip(
        "a conflict of two puts counts as a name that is there",
        "storage.s3",
        "                if found is None:\n                    raise",
        "                if found is None:\n"
        '                    raise AlreadyExists(f"{self.uri}/{name} exists already") from error',
        "operations",
    ),
)


def noticed(slip: Slip, line: object = None) -> str | None:
    """Return what the slip's suite says about it."""
    looks: dict[str, Callable[[], Iterator[str | None]]] = {
        "crashes": lambda: map(crashes.one, range(1_000)),
        "fsync": lambda: _faults("fsync"),
        "list": lambda: _faults("list"),
        "cut in": lambda: chain(crashes.cut_in(range(12), 0), crashes.cut_in(range(12), 1)),
        "damage": lambda: map(damage.one, range(500)),
        "torn": _torn,
        "operations": lambda: _operations(line),
        "ignorant": lambda: _ignorant(line),
    }
    with slipped(slip):
        for course in (crashes._states, damage._disk):
            course.cache_clear()
        try:
            return next(filter(None, looks[slip.suite]()), None)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            for course in (crashes._states, damage._disk):
                course.cache_clear()


@contextlib.contextmanager
def slipped(slip: Slip) -> Iterator[None]:
    """Run with one slip in the package."""
    module = importlib.import_module(f"{PACKAGE}.{slip.module}")
    source = Path(inspect.getfile(module)).read_text(encoding="utf-8")
    if source.count(slip.old) != 1:
        raise ValueError(f"{slip.name}: its text is {source.count(slip.old)} times in {slip.module}")
    changed = _functions(compile(source.replace(slip.old, slip.new), module.__file__ or "", "exec"))
    real = {function.__code__.co_qualname: function for function in _of(module)}
    before = {name: function.__code__ for name, function in real.items()}
    try:
        for name, function in real.items():
            function.__code__ = changed[name]
        yield
    finally:
        for name, function in real.items():
            function.__code__ = before[name]


def _functions(code: CodeType) -> dict[str, CodeType]:
    """Return the functions of a module and of its classes, by name."""
    found = {}
    for one in code.co_consts:
        if isinstance(one, CodeType):
            found[one.co_qualname] = one
            if not one.co_flags & inspect.CO_OPTIMIZED:  # a class
                found |= _functions(one)
    return found


def _of(module: ModuleType) -> Iterator[FunctionType]:
    owners = [module, *(one for one in vars(module).values() if inspect.isclass(one))]
    for owner in owners:
        for one in vars(owner).values():
            one = getattr(one, "__func__", one)
            one = one.fget if isinstance(one, property) else one
            one = inspect.unwrap(one) if callable(one) else one
            # What decorators have made of code that is not in the file stays as it is.
            if isinstance(one, FunctionType) and one.__code__.co_filename == module.__file__:
                yield one


def _faults(kind: str) -> Iterator[str | None]:
    for number, name, code in crashes.at_every_call():
        if name.startswith(kind):
            yield crashes.after_fault(number, code)


def _torn() -> Iterator[str | None]:
    """A worker finds a torn file under the name of its own."""
    from random import Random

    from backtest_farm.errors import StoreError
    from backtest_farm.storage import LocalStorage
    from backtest_farm.store import write_fragment
    from tests.soak.work import SWEEPS, in_small, rows_of
    from tests.storage.simulated_disk import SimulatedDisk

    storage = LocalStorage(crashes.FOLDER, SimulatedDisk())
    with in_small(Random("torn")):
        whole = write_fragment(storage, SWEEPS[0], 0, rows_of(SWEEPS[0], 0))
        data = storage.read(whole.name)
        storage.remove(whole.name)
        storage.put_new(whole.name, data[:-9])
        try:
            write_fragment(storage, SWEEPS[0], 0, rows_of(SWEEPS[0], 0))
        except StoreError:
            return
    yield "a torn file is taken for the rows"


def _operations(line: object) -> Iterator[str | None]:
    for seed in range(40):
        storage = S3Storage(f"s3://{BUCKET}/slips-{next(_places)}")
        with unreliable(line, seed):  # type: ignore[arg-type]
            yield from islice(operations.wrong(storage, operations.Random(seed)), 1)


def _ignorant(line: object) -> Iterator[str | None]:
    from backtest_farm.errors import StoreError

    line.ignores_conditions = True  # type: ignore[attr-defined]
    try:
        s3._probed.clear()
        S3Storage(f"s3://{BUCKET}/ignorant").put_new("a", b"")
    except StoreError:
        return
    finally:
        line.ignores_conditions = False  # type: ignore[attr-defined]
    yield "a store that replaces is written to"
