"""Rows as one file for other programs."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from backtest_farm.errors import InputError

if TYPE_CHECKING:
    import polars as pl

FORMATS = (".parquet", ".arrow", ".csv")


def export(rows: pl.LazyFrame, path: Path) -> int:
    """Write a frame as the suffix of `path` says, whole or not at all, and return its number of rows.

    In CSV columns of lists are left out, and a text that a spreadsheet would run as a formula (it starts with
    ``= + - @`` or a control character) gets an apostrophe in front.

    Raises
    ------
    InputError
        If the format is not known, or the file cannot be written.
    """
    import polars as pl

    if path.suffix not in FORMATS:
        raise InputError(
            f"{path}: cannot tell the format from {path.suffix or 'no suffix'!r}",
            hint=f"name a file that ends in {', '.join(FORMATS)}",
        )
    frame = rows.collect()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if path.suffix == ".parquet":
            frame.write_parquet(temporary)
        elif path.suffix == ".arrow":
            frame.write_ipc(temporary)
        else:
            flat = frame.select(pl.exclude([name for name, kind in frame.schema.items() if kind.is_nested()]))
            flat.with_columns(pl.col(pl.String).str.replace(r"^[=+\-@\t\r\n]", "'$0")).write_csv(temporary)
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error}", hint="name a file in a folder that exists"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return frame.height
