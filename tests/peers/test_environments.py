"""An engine that cannot be had is told apart from one that fails, with the reason."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.peers import environments, test_peers
from tests.peers.environments import MissingPeerError
from tests.peers.table import Row, lines


def test_a_python_that_is_too_old_is_told() -> None:
    with pytest.raises(MissingPeerError, match=r"needs Python 9\.0 or newer: name one in PEERS_PYTHON"):
        environments._base((9, 0))
    assert environments._base((3, 11)) == Path(sys.executable)


def test_why_an_installation_failed_is_told() -> None:
    script = "import sys; sys.exit('WARNING: slow\\nERROR: no such package\\nhint: none')"
    with pytest.raises(MissingPeerError, match="ERROR: no such package"):
        environments._run([sys.executable, "-c", script])
    with pytest.raises(MissingPeerError, match="nowhere"):
        environments._run(["/nowhere/python"])


def test_a_missing_engine_is_skipped_and_stands_in_the_table(tmp_path, monkeypatch) -> None:
    def missing(*_: object) -> None:
        raise MissingPeerError("no such package")

    rows: list[Row] = []
    monkeypatch.setattr(test_peers, "theirs", missing)
    monkeypatch.setattr(test_peers, "ROWS", rows)
    with pytest.raises(pytest.skip.Exception, match="bt is not here: no such package"):
        test_peers.account_of(test_peers.Match("bt", "crossovers"), tmp_path)
    assert lines(rows)[1].endswith("  skipped: no such package")
