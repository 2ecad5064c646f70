"""What people see: words, rates, and the right kind of display for the stream."""

from __future__ import annotations

import io

import pytest

from backtest_farm.analysis.progress import Bar, Lines, choose_progress
from backtest_farm.farm import RunSummary
from backtest_farm.farm.progress import Progress, Status, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_come_every_few_seconds_and_tell_rate_and_rest() -> None:
    now = [0.0]
    out = io.StringIO()
    lines = Lines(out, clock=lambda: now[0])
    summary = RunSummary(1000, 200, 2)
    status = Status(summary, clock=lambda: now[0])
    for step in range(81):
        now[0] = 10 + step * 0.1
        summary.n_committed = 200 + step * 5
        status.moved()
        lines.show(status)
    shown = out.getvalue().splitlines()
    assert 2 <= len(shown) <= 4
    assert shown[0] == "200 of 1,000 trials committed (20 %), 2 failed"
    assert shown[1] == "350 of 1,000 trials committed (35 %), 50/s, 13 s left, 2 failed"


def test_a_phase_is_told_at_once_and_an_unchanged_line_seldom() -> None:
    now = [0.0]
    out = io.StringIO()
    lines = Lines(out, clock=lambda: now[0])
    status = Status(RunSummary(40, 0, 0), clock=lambda: now[0])
    shown = []
    for step in range(301):
        now[0] = step * 0.1
        status.phase = "starting Ray" if step < 20 else "waiting for the first task"
        lines.show(status)
        if len(shown) < len(said := out.getvalue().splitlines()):
            shown.append((round(now[0]), said[-1]))
    waiting = "waiting for the first task; 0 of 40 trials committed (0 %)"
    assert shown == [
        (0, "starting Ray; 0 of 40 trials committed (0 %)"),
        (2, waiting),
        (12, waiting),
        (22, waiting),
    ]
    status.moved()
    lines.show(status)
    assert out.getvalue().splitlines()[-1] == "0 of 40 trials committed (0 %)", "the phase is over"


def test_the_start_up_does_not_count_as_work() -> None:
    now = [100.0]
    summary = RunSummary(1000, 0, 0)
    status = Status(summary, clock=lambda: now[0])
    assert status.rate() == 0
    now[0] += 15
    status.moved()
    now[0] += 2
    status.moved()
    summary.n_committed = 100
    status.moved()
    assert status.rate() == pytest.approx(50)
    now[0] += 2
    assert status.rate() == pytest.approx(25), "a stall shows"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59.4, "59 s"), (125, "2 min 5 s"), (11_400, "3 h 10 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_status_line() -> None:
    now = [0.0]
    summary = RunSummary(3000, 1024, 0)
    status = Status(summary, clock=lambda: now[0])
    assert status.line() == "1,024 of 3,000 trials committed (34 %)"
    summary.n_committed = 2995
    status.moved()
    now[0], summary.n_committed, summary.n_failed = 2.0, 3000, 1
    status.moved()
    assert status.line() == "3,000 of 3,000 trials committed (100 %), 2.5/s, 1 failed"


def test_the_stream_decides() -> None:
    assert type(choose_progress(False)) is Progress
    assert isinstance(choose_progress(True, io.StringIO()), Lines)
    assert isinstance(choose_progress(True, Terminal()), Bar)
    mine = Progress()
    assert choose_progress(mine) is mine


def test_the_bar_shows_phase_and_state_and_leaves_the_line_that_was_said() -> None:
    out = Terminal()
    bar = Bar(out)
    summary = RunSummary(10, 0, 1)
    status = Status(summary, clock=iter(range(100)).__next__)
    status.phase = "starting Ray"
    bar.show(status)
    bar._bar.refresh()
    summary.n_committed = 4
    status.moved()
    bar.show(status)
    bar._bar.refresh()
    bar.say("done: [all] of it")
    bar.end()
    assert "starting Ray" in out.getvalue()
    assert "4 of 10 trials committed" in out.getvalue()
    assert "done: [all] of it" in out.getvalue()
