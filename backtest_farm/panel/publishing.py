"""A grid becomes the first snapshot of a panel."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from backtest_farm.errors import InputError, PanelError
from backtest_farm.ingest.grid import Grid
from backtest_farm.ingest.report import Report
from backtest_farm.panel.clock import bars_in_a_year
from backtest_farm.panel.folder import PanelFolder
from backtest_farm.panel.layout import tidy
from backtest_farm.panel.manifest import Manifest


def publish(folder: PanelFolder, grid: Grid, report: Report, bars_per_year: float | None) -> str:
    """Write `grid` into a folder of its own and return the snapshot's name; see `Panel.build`.

    Raises
    ------
    InputError
        If `bars_per_year` is not positive.
    PanelError
        If the folder holds a panel with other content.
    """
    yearly = bars_in_a_year(grid.timestamps) if bars_per_year is None else float(bars_per_year)
    if not 0 < yearly < float("inf"):
        raise InputError(f"bars_per_year is {yearly}: give a positive number")
    fields = {name: tidy(grid.fields[name]) for name in sorted(grid.fields)}
    manifest = Manifest(grid.timestamps, grid.symbols, yearly, grid.ends, grid.statics, {})
    present = folder.names()
    if present:
        # Compared before anything is written, so that a refusal leaves the folder as it was.
        hashes = {name: hashlib.sha256(values.data).hexdigest() for name, values in fields.items()}
        own = manifest.digest(hashes)
        same = [name for name in present if name.endswith(f"-{own}")]
        if same:
            return same[0]
        raise PanelError(
            f"{folder.path} already holds a panel with other content (newest snapshot {present[-1]})",
            hint="give another path, or remove the folder if nobody needs the old panel",
        )
    file = folder.add_block(grid.timestamps, grid.symbols, fields)
    return folder.commit(replace(manifest, fields=dict.fromkeys(fields, file)), report)
