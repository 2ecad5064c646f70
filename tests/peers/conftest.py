"""Prints the table of the comparison after everything else."""

from __future__ import annotations

from tests.peers.table import ROWS, lines


def pytest_terminal_summary(terminalreporter) -> None:
    if ROWS:
        terminalreporter.section("comparison with other engines")
        for line in lines(ROWS):
            terminalreporter.write_line(line)
