"""A small market in which everything that trading can read is there, for the tests of this room."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

import backtest_farm as bf

N_BARS, N_ASSETS = 120, 16


def full_panel(path: Path) -> bf.Panel:
    """A panel with gaps and ends of life, and all that rules, limits, costs and events read.

    Prices are not adjusted for the splits that it has. Its field ``wanted`` holds weights, long and short.
    """
    made = bf.synthetic_panel(path / "plain", n_bars=N_BARS, n_assets=N_ASSETS, seed=12)
    rng = np.random.default_rng(12)
    split = np.where(rng.random(made.shape) < 0.01, rng.choice([2.0, 3.0, 0.5], made.shape), np.nan)
    units = np.cumprod(np.nan_to_num(split, nan=1.0), axis=0)
    prices = {name: made[name] / units for name in ("open", "high", "low", "close")}
    tables = {**prices, "volume": made["volume"] * units}
    columns = {name: table.reshape(-1) for name, table in tables.items()}
    bars = pl.DataFrame(
        {
            "timestamp": np.repeat(made.timestamps, N_ASSETS),
            "symbol": list(made.symbols) * N_BARS,
            **columns,
        }
    )
    ended = np.flatnonzero(made.ends.bar < N_BARS)
    ends = pl.DataFrame(
        {
            "symbol": [made.symbols[a] for a in ended],
            "date": made.timestamps[made.ends.bar[ended]],
            "payout": [None] * len(ended),
        },
        schema_overrides={"payout": pl.Float64},
    )
    panel = bf.Panel.build(bars.filter(pl.col("close").is_not_nan()), path / "panel", ends=ends)
    wanted = np.full(panel.shape, np.nan)
    wanted[::4] = np.where(
        rng.random(wanted[::4].shape) < 0.5, 0.25 * rng.normal(0.2, 1.0, wanted[::4].shape), 0
    )
    fields = {
        "wanted": wanted,
        "split": split,
        "dividend": np.where(rng.random(panel.shape) < 0.03, 0.01 * np.nan_to_num(panel["close"]), np.nan),
        "atr": bf.factor.atr(5).on(panel),
        "atr_slow": 1.5 * bf.factor.atr(20).on(panel),
        "sigma": bf.factor.volatility(10).on(panel),
        "sigma_slow": bf.factor.volatility(40).on(panel),
        "adv": bf.factor.mean("volume", 5).on(panel),
        "adv_slow": bf.factor.mean("volume", 30).on(panel),
    }
    for name, values in fields.items():
        panel = panel.with_field(name, values)
    for name, values in static_columns().items():
        panel = panel.with_static(name, pl.DataFrame({"symbol": panel.symbols, name: values}))
    return panel


def static_columns() -> dict[str, list]:
    """Values of the panel's static columns, in panel order."""
    numbers = np.arange(N_ASSETS)
    return {
        "sector": ["ABC"[number % 3] for number in numbers],
        "region": ["NS"[number % 2] for number in numbers],
        "fee": (3.0 + numbers).tolist(),
        "cap": (0.0001 * (1 + numbers)).tolist(),
        "rate": (0.02 * (1 + numbers)).tolist(),
    }
