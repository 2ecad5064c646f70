"""The other engines, each in a virtual environment of its own, made when it is first asked for.

``python -m tests.peers.environments`` makes them all and says which could not be made, and why.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = {
    "vectorbt": "vectorbt",
    "backtrader": "backtrader",
    "bt": "bt",
    "zipline": "zipline-reloaded",
    "ml4t": "ml4t-backtest",
    "backtesting": "backtesting",
}
"""The engines by the names of their profiles, and what they are called in the package index."""

OLDEST = {"ml4t": (3, 12)}
"""The first Python that an engine runs on, where that is newer than ours."""

INSTALL_SECONDS = 900


class MissingPeerError(Exception):
    """An engine that cannot be had here; the text says why."""


@cache
def python_of(peer: str) -> tuple[Path, str]:
    """Return the interpreter of an engine's environment, and the engine's version.

    Raises
    ------
    MissingPeerError
        If it could not be installed.
    """
    folder = HERE / ".venv" / peer
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = HERE / "requirements" / f"{peer}.txt"
    content = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != content:
        _run([str(_base(OLDEST.get(peer, (3, 11)))), "-m", "venv", "--clear", str(folder)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--requirement", str(wanted)])
        stamp.write_text(content)
    ask = f"from importlib.metadata import version; print(version({PACKAGES[peer]!r}))"
    return python, _run([str(python), "-c", ask]).strip()


def _base(oldest: tuple[int, int]) -> Path:
    """Return a Python that is new enough: ours, $PEERS_PYTHON, or what there is on the PATH."""
    test = f"import sys, venv, ensurepip; sys.exit(sys.version_info < {oldest})"
    for python in _pythons():
        if subprocess.run([python, "-c", test], capture_output=True).returncode == 0:
            return python
    least = ".".join(map(str, oldest))
    raise MissingPeerError(f"it needs Python {least} or newer: name one in PEERS_PYTHON=/path/to/python")


def _pythons() -> Iterator[Path]:
    yield Path(sys.executable)
    if named := os.environ.get("PEERS_PYTHON"):
        yield Path(named)
    for minor in (14, 13, 12, 11):
        if found := shutil.which(f"python3.{minor}"):
            yield Path(found)
            # What pyenv puts on the PATH answers only for the version that is chosen at the moment.
            yield from Path(found).parents[1].glob(f"versions/3.{minor}.*/bin/python")


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingPeerError(f"{Path(command[0]).name}: {error}") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        reasons = [line for line in said if line.startswith("ERROR")] or said
        raise MissingPeerError(f"{' '.join(command[1:4])}: {reasons[-1]}")
    return done.stdout


def main() -> int:
    """Make all environments and say how it went."""
    missing = 0
    for peer in PACKAGES:
        try:
            print(f"{peer}: {PACKAGES[peer]} {python_of(peer)[1]}")
        except MissingPeerError as error:
            print(f"{peer}: missing: {error}")
            missing += 1
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
