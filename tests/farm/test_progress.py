"""What people see: words, rates, and the right kind of display for the stream."""

from __future__ import annotations

import io

import pytest

from backtest_farm.farm.progress import Bar, Lines, Silence, Speed, choose_progress, duration, status_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_come_every_few_seconds_and_tell_rate_and_rest() -> None:
    now = [0.0]
    out = io.StringIO()
    lines = Lines(out, clock=lambda: now[0])
    lines.begin(1000, 200)
    for step in range(81):
        now[0] = 10 + step * 0.1
        lines.moved(200 + step * 5, failed=2)
    shown = out.getvalue().splitlines()
    assert 2 <= len(shown) <= 4
    assert shown[0] == "200 of 1,000 trials committed (20 %), 2 failed"
    assert shown[1] == "350 of 1,000 trials committed (35 %), 50/s, 13 s left, 2 failed"


def test_the_start_up_does_not_count_as_work() -> None:
    now = [100.0]
    speed = Speed(lambda: now[0])
    assert speed.rate() == 0
    speed.saw(0)
    now[0] += 2
    speed.saw(0)
    speed.saw(100)
    assert speed.rate() == pytest.approx(50)
    now[0] += 2
    assert speed.rate() == pytest.approx(25), "a stall shows"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59.4, "59 s"), (125, "2 min 5 s"), (11_400, "3 h 10 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_status_line() -> None:
    assert status_line(3000, 1024, 0, 0) == "1,024 of 3,000 trials committed (34 %)"
    assert status_line(3000, 3000, 1, 2.5) == "3,000 of 3,000 trials committed (100 %), 2.5/s, 1 failed"


def test_the_stream_decides() -> None:
    assert isinstance(choose_progress(False), Silence)
    assert isinstance(choose_progress(True, io.StringIO()), Lines)
    assert isinstance(choose_progress(True, Terminal()), Bar)
    mine = Silence()
    assert choose_progress(mine) is mine


def test_the_bar_shows_the_state_and_leaves_the_line_that_was_said() -> None:
    out = Terminal()
    bar = Bar(out, clock=iter(range(100)).__next__)
    bar.begin(10, 0)
    bar.moved(0, 0)
    bar.moved(4, 1)
    bar._bar.refresh()
    bar.say("done: [all] of it")
    bar.end()
    assert "4 of 10 trials committed" in out.getvalue()
    assert "done: [all] of it" in out.getvalue()
