"""Parquet files of strangers are read by a child process first, which may die of them.

Damaged or hostile bytes can make a Parquet library panic, abort, ask for all memory or never end, and nothing
within the same process stops that. The child has limits of memory and CPU time, and decodes every value with
the calls that the parent makes afterwards: a look at the footer alone would prove nothing, as it is the pages
that kill. That costs the start of a process, and for large files about a third more of reading them.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest_farm.errors import InputError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow.parquet as pq

CHUNK_ROWS = 2**17
MEMORY_BYTES = 6 * 2**30
"""What the child may take beside the mapped files themselves."""

CPU_S = 60
"""CPU seconds the child has, and one more for each `BYTES_IN_A_SECOND` of the files."""

BYTES_IN_A_SECOND = 10 * 2**20
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from backtest_farm.ingest import probe"


def probe(files: Sequence[Path], held_bytes: int) -> bool:
    """Read Parquet files in a child process; return whether all of them may be held at once.

    Parameters
    ----------
    files : sequence of pathlib.Path
        The files.
    held_bytes : int
        What may be held: files that would take more are read in pieces, by the child as by the caller.

    Raises
    ------
    InputError
        If a file cannot be read, or kills who reads it.
    """
    sizes = [file.stat().st_size for file in files]
    memory, seconds = MEMORY_BYTES + sum(sizes), CPU_S + sum(sizes) // BYTES_IN_A_SECOND
    asked = [[str(file) for file in files], held_bytes, memory, seconds]
    child = subprocess.run(
        [sys.executable, "-c", f"{_START}; probe._main()", json.dumps(sys.path)],
        input=json.dumps(asked).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # One thread is enough, and each reserves address space.
        env=os.environ | {"POLARS_MAX_THREADS": "1"},
    )
    said = [json.loads(line) for line in child.stdout.splitlines()]
    if child.returncode == 0:
        return said[-1]
    at = next((each for each in reversed(said) if isinstance(each, int)), 0)
    reason = said[-1] if said and isinstance(said[-1], str) else _death(child.returncode, memory, seconds)
    raise InputError(f"{files[at]} cannot be read: {reason}", hint="check that the file is whole")


def _death(code: int, memory: int, seconds: int) -> str:
    if code == -signal.SIGXCPU:
        return f"it takes more than {seconds} s of CPU time"
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the process that tried it died ({how}), within {memory >> 20:,} MiB of memory"


def _main() -> None:
    """Be the child: say the number of each file before it is read, and at last what is wrong or is held."""
    import polars  # noqa: F401 - before there is a limit

    files, held_bytes, memory, seconds = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))  # says at first which limit it was
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        held = sum(_numbered(files, _holding_bytes)) <= held_bytes
        for _ in _numbered(files, _read_whole if held else _read_pieces):
            pass
    except BaseException as fault:  # a panic of polars is no Exception
        print(json.dumps((str(fault).strip() or type(fault).__name__).splitlines()[0][:300]), flush=True)
        sys.exit(1)
    print(json.dumps(held))


def _numbered(files: list[str], read: Callable[[Path], Any]) -> Iterator[Any]:
    for at, file in enumerate(files):
        print(at, flush=True)
        yield read(Path(file))


def _holding_bytes(path: Path) -> int:
    """Return what holding a file weighs."""
    import polars as pl

    columns = len(pl.read_parquet_schema(path))
    return pl.scan_parquet(path, glob=False).select(pl.len()).collect().item() * columns * 8 * 3


def _read_whole(path: Path) -> None:
    whole_parquet(path)


def _read_pieces(path: Path) -> None:
    import polars as pl

    with opened_parquet(path) as file:
        pl.from_arrow(file.schema_arrow.empty_table())
        for batch in file.iter_batches(CHUNK_ROWS, use_threads=False):
            pl.from_arrow(batch)


def whole_parquet(path: Path) -> pl.DataFrame:
    """Return a file that is small enough to be held."""
    import polars as pl

    return pl.read_parquet(path, glob=False)


def opened_parquet(path: Path) -> pq.ParquetFile:
    """Return a file of any size, to be read in batches.

    pyarrow reads page after page; polars' streaming engine took more memory than all its rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [
        column.name for column in pq.read_schema(path) if column.type in (pa.string(), pa.large_string())
    ]
    return pq.ParquetFile(path, memory_map=True, pre_buffer=False, read_dictionary=texts)
