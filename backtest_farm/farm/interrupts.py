"""Ctrl-C and SIGTERM: two ways to ask a run to end, held back for the moments in which they would do harm."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_STOPS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does."""

    exit_code = 128 + signal.SIGTERM


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` where SIGTERM arrives in the body, unless this process has other plans for it."""
    if not _is_main() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """Put back what SIGTERM means after a body that changes it, and take its SystemExit for the signal."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        raise Terminated from None
    finally:
        if _is_main() and before is not None:
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let the body finish when a signal to stop arrives in it, then deliver the signal.

    Only the main thread receives signals; elsewhere this does nothing. A handler that was not set from Python
    cannot be put back and is left alone.
    """
    if not _is_main():
        yield
        return
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in _STOPS}
    mine = [number for number in _STOPS if before[number] is not None]
    for number in mine:
        signal.signal(number, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])
        if arrived:
            signal.raise_signal(arrived[0])


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _terminate(number: int, frame: object) -> None:
    raise Terminated
