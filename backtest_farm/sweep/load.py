"""From a sweep file to a checked specification."""

from __future__ import annotations

from pathlib import Path

from backtest_farm.spec import MAX_TRIALS, read_yaml
from backtest_farm.sweep.spec import SweepSpec, check_size, located_panel


def load_sweep(path: str | Path, *, limit: int = MAX_TRIALS) -> SweepSpec:
    """Read a sweep file (YAML).

    A list at a leaf is an axis. Relative panel paths are relative to the file.

    Parameters
    ----------
    path : str or path
        The file.
    limit : int
        The largest number of trials that is accepted; nothing is expanded to count them.

    Raises
    ------
    InputError
        With all faults at once, each with file, line, dotted path, value and what is allowed.
    """
    file = read_yaml(path)
    content = dict(file.content)
    if isinstance(panel := content.get("panel"), str):
        content["panel"] = located_panel(panel, file.path.absolute().parent)
    spec = SweepSpec.from_file(content, str(file.path), file.line_of)
    check_size(spec, limit)
    return spec
