"""Slipped decimal points are looked for where prices jump, and found as if every logarithm had been taken."""

from __future__ import annotations

import numpy as np
import pytest

from backtest_farm.ingest import Grid
from backtest_farm.ingest.checks import _ELSEWHERE, _NEAR_POWER, _REVERTS
from tests.ingest.bars import survey

N_BARS, N_ASSETS = 400, 25
NAMES = ("close", "open", "high", "low")
STRANGE = (0.0, -1.0, -50.0, np.inf, -np.inf, 5e-324, 1e308, np.nan)


def prices(seed: int) -> dict[str, np.ndarray]:
    """Random walks with slips of any size, gaps, and now and then what is no price."""
    draw = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(draw.normal(0, 0.05, (N_BARS, N_ASSETS)), axis=0))
    fields = {name: close * np.exp(draw.normal(0, 0.02, close.shape)) for name in NAMES}
    for values in fields.values():
        slips = draw.random(values.shape) < 0.05
        values[slips] *= 10 ** draw.uniform(-3, 3, slips.sum())
        exact = draw.random(values.shape) < 0.03
        values[exact] *= 10.0 ** draw.integers(-3, 4, exact.sum())
        odd = draw.random(values.shape) < 0.02
        values[odd] = draw.choice(STRANGE, odd.sum())
    fields["close"][draw.random(close.shape) < 0.1] = np.nan
    return fields


def plain_shifts(fields: dict[str, np.ndarray]) -> int:
    """How many prices have slipped, by the definition, cell by cell."""
    count = 0
    logs = {name: np.log10(values) for name, values in fields.items()}

    def near_power(jump: float) -> bool:
        return abs(np.rint(jump)) >= 1 and abs(jump - np.rint(jump)) < _NEAR_POWER

    for a in range(N_ASSETS):
        bars = np.flatnonzero(~np.isnan(fields["close"][:, a]))
        closes = logs["close"][bars, a]
        for i, t in enumerate(bars):
            back = closes[i - 1] if i > 0 else np.nan
            here, ahead = closes[i], closes[i + 1] if i + 1 < len(bars) else np.nan
            count += (
                i + 1 < len(bars) and near_power(here - (back + ahead) / 2) and abs(ahead - back) < _REVERTS
            )
            around = [back, here, ahead]
            middle = here if np.isnan(back) or np.isnan(ahead) else sorted(around)[1]
            if np.isnan(here):
                middle = np.nan
            for name in NAMES[1:]:
                level = logs[name][t, a]
                away = not abs(level - back) < _ELSEWHERE and not abs(level - ahead) < _ELSEWHERE
                count += near_power(level - middle) and away
    return count


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_slip_is_found_and_nothing_else(seed: int) -> None:
    fields = prices(seed)
    days = np.datetime64("2020-01-01") + np.arange(N_BARS)
    found = survey(Grid(days, tuple(f"S{a:02d}" for a in range(N_ASSETS)), fields), "made up").counts
    assert found["decimal_shift"] == plain_shifts(fields) > 300
