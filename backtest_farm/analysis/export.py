"""Rows as one file, or one Delta table, for other programs."""

from __future__ import annotations

import importlib
import importlib.util
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from backtest_farm.errors import InputError, PlatformError

if TYPE_CHECKING:
    import polars as pl

FORMATS = (".parquet", ".arrow", ".csv", ".delta")

_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"
"""How a text starts that a spreadsheet may take for a formula."""


def export(rows: pl.LazyFrame, path: Path, kind: str | None = None) -> int:
    """Write a frame whole or not at all, batch by batch, and return its number of rows.

    In CSV columns of lists are left out, and a text that a spreadsheet would run as a formula (it starts with
    ``= + - @``, one of their wide forms, tab or a line's end) gets an apostrophe in front.

    Parameters
    ----------
    rows : polars.LazyFrame
        What to write.
    path : Path
        The file; for Delta a folder, where a table that is there gets a new version.
    kind : {"parquet", "arrow", "csv", "delta"}, optional
        The format; as the suffix of `path` says when not given.

    Raises
    ------
    InputError
        If the format is not known, or the file cannot be written.
    PlatformError
        If Delta is asked for and its package is not installed.
    """
    import polars as pl

    suffix = path.suffix if kind is None else f".{kind}"
    if suffix not in FORMATS:
        raise InputError(
            f"{path}: cannot tell the format from {suffix or 'no suffix'!r}"
            if kind is None
            else f"{kind!r} is no format",
            hint=f"name a file that ends in {', '.join(FORMATS)}",
        )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        count: int = rows.select(pl.len()).collect().item()
        if suffix == ".delta":
            _write_delta(rows, path, temporary)
        else:
            _write_file(rows, suffix, temporary)
            temporary.replace(path)
    except (OSError, pl.exceptions.ComputeError) as error:
        raise InputError(
            f"{path} cannot be written: {error}",
            hint="name a file in a folder that exists, may be written, and has room; nothing was changed",
        ) from None
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
    return count


def _write_file(rows: pl.LazyFrame, suffix: str, file: Path) -> None:
    import polars as pl
    from polars import selectors as cs

    if suffix == ".parquet":
        rows.sink_parquet(file, sync_on_close="data")
    elif suffix == ".arrow":
        rows.sink_ipc(file, sync_on_close="data")
    else:
        safe = pl.col(pl.String).str.replace(_FORMULA, "'$0")
        rows.select(~cs.nested()).with_columns(safe).sink_csv(file, sync_on_close="data")


def _write_delta(rows: pl.LazyFrame, path: Path, temporary: Path) -> None:
    from polars import selectors as cs

    if importlib.util.find_spec("deltalake") is None:
        raise PlatformError(
            f"{path}: a Delta table needs the package deltalake, which is not installed",
            hint='pip install "backtest-farm[delta]", or name a file that ends in .parquet',
        )
    faults = importlib.import_module("deltalake.exceptions")
    # Delta knows no lists of fixed length.
    plain = rows.with_columns(cs.array().arr.to_list())
    try:
        if (path / "_delta_log").is_dir():
            plain.sink_delta(path, mode="overwrite", delta_write_options={"schema_mode": "overwrite"})
            return
        plain.sink_delta(temporary)
    except faults.DeltaError as error:
        raise OSError(str(error)) from None
    # Fails where something else lies, and replaces an empty folder.
    temporary.rename(path)
