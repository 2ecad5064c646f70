"""One object for all a verb says: the answer on stdout, as text or one JSON document; the rest on stderr."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from backtest_farm.errors import FarmError, plain

INTERRUPTED = 130
WRONG_INPUT = 2
ENVIRONMENT = 3

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")
]

# A table that is piped into a file has no terminal to fit; beyond this, columns are left out.
_WIDTH_WITHOUT_TERMINAL = 240


@dataclass(frozen=True)
class Prose:
    """Lines for people to read, broken between words where a terminal ends; blanks in front are kept."""

    lines: Sequence[str]


class Answer:
    """Where a verb puts its result and its remarks.

    Parameters
    ----------
    as_json : bool
        One JSON document on stdout instead of text.
    stdout : TextIO
        Where the answer goes. Whatever else the verb's libraries print belongs on stderr.
    """

    def __init__(self, as_json: bool, *, stdout: TextIO) -> None:
        self.as_json = as_json
        self._stdout = stdout
        self._screen = _console(stdout)
        self._remarks = _console(sys.stderr)

    @property
    def width(self) -> int:
        """Characters that a line of the answer may have."""
        return self._screen.width

    def give(self, document: Mapping[str, Any], *text: RenderableType | Prose) -> None:
        """Print the verb's one answer: `document` with ``--json``, otherwise each of `text`."""
        if self.as_json:
            self._write_json(document)
        else:
            for part in text:
                if isinstance(part, Prose):
                    for line in part.lines:
                        said = line.lstrip(" ")
                        _hang(self._screen, line[: len(line) - len(said)], Text(plain(said)))
                else:
                    # Commands, paths and digests are left to the terminal to break: copied, they are whole.
                    self._screen.print(part, soft_wrap=isinstance(part, str))
        self._stdout.flush()

    def note(self, remark: str) -> None:
        """Say on stderr what is going on."""
        self._remarks.print(Text(plain(remark), style="dim"), soft_wrap=True)

    def refuse(
        self, message: str, *, faults: Sequence[str] = (), hint: str | None = None, exit_code: int
    ) -> None:
        """Print message, faults and the next step on stderr; with ``--json`` also as the document."""
        _hang(self._remarks, "", Text.assemble(("Error: ", "bold red"), plain(message)))
        for fault in faults:
            _hang(self._remarks, "  - ", Text(plain(fault)))
        if hint:
            _hang(self._remarks, "  -> ", Text(plain(hint), style="cyan"))
        if self.as_json:
            error = {"message": message, "faults": list(faults), "hint": hint, "exit_code": exit_code}
            self._write_json({"error": error})
            self._stdout.flush()

    def _write_json(self, document: Mapping[str, Any]) -> None:
        text = json.dumps(jsonable(document), indent=2, ensure_ascii=False, allow_nan=False)
        # JSON leaves some characters alone that a terminal does not.
        for line in text.split("\n"):
            if not line.isprintable():
                line = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
            self._stdout.write(line + "\n")


@contextlib.contextmanager
def answering(as_json: bool) -> Iterator[Answer]:
    """Give a verb its `Answer`, and turn whatever ends it into a message and an exit code."""
    answer = Answer(as_json, stdout=sys.stdout)
    try:
        # Libraries print where they like; the answer must stay alone on stdout.
        with contextlib.redirect_stdout(sys.stderr):
            yield answer
    except FarmError as error:
        answer.refuse(error.message, faults=error.faults, hint=error.hint, exit_code=error.exit_code)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt as interrupt:
        # A run of a sweep says how far it came; nothing else can be gone on with.
        hint = "what was committed is kept: the same command goes on from there" if interrupt.args else None
        # Of Ctrl-C and SIGTERM the latter says so: a shell wants to know which it was.
        code = getattr(interrupt, "exit_code", INTERRUPTED)
        answer.refuse("interrupted", hint=hint, exit_code=code)
        raise typer.Exit(code) from None
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        if error.filename is None:
            raise _internal(answer, error) from None
        answer.refuse(f"{error.filename}: {_lowered(error.strerror)}", exit_code=WRONG_INPUT)
        raise typer.Exit(WRONG_INPUT) from None
    except (OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            answer.refuse(f"{error.filename}: {_lowered(error.strerror)}", exit_code=WRONG_INPUT)
            raise typer.Exit(WRONG_INPUT) from None
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        said = _lowered(error.strerror if isinstance(error, OSError) else "out of memory") or str(error)
        answer.refuse(where + said, hint=_report_hint(error), exit_code=ENVIRONMENT)
        raise typer.Exit(ENVIRONMENT) from None
    except typer.Exit:
        raise
    except Exception as error:
        raise _internal(answer, error) from None


def _internal(answer: Answer, error: Exception) -> typer.Exit:
    said = f"{type(error).__name__}: {error}"
    message = f"internal error, a fault of backtest_farm and not of your input ({said})"
    answer.refuse(message, hint=_report_hint(error), exit_code=ENVIRONMENT)
    return typer.Exit(ENVIRONMENT)


def _report_hint(error: BaseException) -> str:
    """Write the traceback to a file of its own, readable by the user alone, and say where."""
    import tempfile
    import traceback

    handle, name = tempfile.mkstemp(prefix="backtest-farm-error-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as report:
        report.write(plain(f"backtest-farm {' '.join(sys.argv[1:])}\n\n"))
        report.writelines(map(plain, traceback.format_exception(error)))
    return f"the details are in {name}"


def _lowered(sentence: str | None) -> str:
    return (sentence or "")[:1].lower() + (sentence or "")[1:]


def _hang(console: Console, prefix: str, text: Text) -> None:
    """Print text after a prefix; lines that a terminal has no room for go on below the text's start."""
    if not console.is_terminal:
        console.print(Text(prefix) + text, soft_wrap=True)
        return
    below = " " * (len(prefix) if prefix.strip() else len(prefix) + 4)
    for at, line in enumerate(text.wrap(console, max(console.width - len(below), 20))):
        line.rstrip()
        console.print(Text(below if at else prefix) + line, soft_wrap=True)


def _console(stream: TextIO) -> Console:
    # No markup anywhere: text from data (symbols, paths, parameters) must never become styling.
    width = None if stream.isatty() else _WIDTH_WITHOUT_TERMINAL
    return Console(file=stream, markup=False, emoji=False, highlight=False, width=width, soft_wrap=False)


def jsonable(value: Any) -> Any:
    """Return `value` as JSON has it: frames as lists of rows, NaN and infinities as null, dates as text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "to_dicts"):  # a polars frame
        return jsonable(value.to_dicts())
    if hasattr(value, "tolist"):  # a numpy scalar or array
        return jsonable(value.tolist())
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form: {value!r}")
