"""The command line: words in, calls out. Nothing heavier than typer is imported before a verb runs."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run ``backtest-farm`` with the process's arguments and leave with its exit code.

    0 all is well; 1 finished, but some trials failed; 2 wrong input; 3 the environment or an internal
    error; 130 interrupted.
    """
    try:
        from backtest_farm.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # before any verb could answer it
        code = 130
    if code == 130:
        # All is committed, closed and said. Ray's threads, stopped in the middle of a connection, sometimes
        # crash while the interpreter is torn down (seen with 2.60), and 139 would be a wrong answer.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
