"""Files that a verb writes for its user."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from backtest_farm.errors import InputError, PlatformError

if TYPE_CHECKING:
    import polars as pl

_FIGURES = {".png": "vl_convert", ".svg": None, ".html": "plotly"}
"""What a figure's file may end in, and the package that draws it."""


def check_export(option: str, file: Path | None, suffixes: tuple[str, ...] = (".csv", ".parquet")) -> None:
    """Refuse a file that could not be written, before any work is done for it."""
    if file is None:
        return
    if file.suffix not in suffixes:
        raise InputError(
            f"{option} {file}: cannot tell the format from {file.suffix or 'no suffix'!r}",
            hint=f"name a file that ends in {' or '.join(suffixes)}",
        )
    if not file.absolute().parent.is_dir():
        raise InputError(
            f"{option} {file}: the folder {file.absolute().parent} does not exist", hint="make it first"
        )


def check_figure(option: str, file: Path | None) -> None:
    """Refuse a figure that could not be drawn, before any work is done for it."""
    check_export(option, file, tuple(_FIGURES))
    package = _FIGURES[file.suffix] if file else None
    if package and importlib.util.find_spec(package) is None:
        raise PlatformError(
            f"{option} {file} needs the package {package}, which is not installed",
            hint='pip install "backtest-farm[plots]", or name a file that ends in .svg',
        )


def write_frame(frame: pl.DataFrame, file: Path) -> None:
    """Write a frame as its file's suffix says."""
    from backtest_farm.analysis.export import export

    export(frame.lazy(), file)
