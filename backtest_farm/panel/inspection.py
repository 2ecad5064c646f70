"""A full look at a panel on disk: every byte of every file, then the bars themselves."""

from __future__ import annotations

from backtest_farm.errors import PanelError
from backtest_farm.ingest.checks import survey
from backtest_farm.ingest.grid import Grid
from backtest_farm.ingest.report import Finding, Report, Tally
from backtest_farm.panel.body import RESTORE, check_size, map_body
from backtest_farm.panel.folder import PanelFolder, file_sha256
from backtest_farm.panel.manifest import BlockFile, Manifest

_KIND = "damaged_file"


def inspect(folder: PanelFolder, manifest: Manifest) -> Report:
    """Return the damage found in the files of a snapshot, or else the warnings for its bars."""
    files = {file.name: file for file in manifest.fields.values()}.values()
    damage = [finding for file in files for finding in _damage(folder, file)]
    if damage:
        return Report(tuple(damage), (Tally(_KIND, "error", len(damage), 0),))
    fields = {
        name: map_body(folder.block(file.name), file.bodies[name], manifest.shape)
        for name, file in manifest.fields.items()
    }
    grid = Grid(manifest.timestamps, manifest.symbols, fields, manifest.statics, manifest.ends)
    return survey(grid, str(folder.path))


def _damage(folder: PanelFolder, file: BlockFile) -> list[Finding]:
    path = folder.block(file.name)
    try:
        check_size(path, file.size)
    except PanelError as fault:
        return [Finding(_KIND, "error", str(path), f"{fault.message}; {RESTORE}")]
    found = file_sha256(path)
    if found == file.sha256:
        return []
    advice = f"its bytes changed: sha256 {found[:16]}… instead of {file.sha256[:16]}…; {RESTORE}"
    return [Finding(_KIND, "error", str(path), advice)]
