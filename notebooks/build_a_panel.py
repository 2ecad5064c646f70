# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From prices to a panel
#
# A panel is a folder of standard Parquet files: bars in rows, assets in columns, any number of fields. This
# notebook makes one from a CSV file, mends the file's faults, adds an index membership, sectors, a market
# series and a score, and appends a later day. The prices are made up; put your own file in their place.

# %%
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

import backtest_farm as bf

pl.Config(float_precision=3, tbl_cols=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True)
folder = Path(tempfile.mkdtemp(prefix="build-a-panel-"))
market = bf.synthetic_panel(folder / "made-up", n_bars=500, n_assets=60, seed=4)
prices = market.to_frame().drop_nulls("close").filter(pl.col("close").is_finite())
prices = prices.select("timestamp", "symbol", "open", "high", "low", "close", "volume")

# %% [markdown]
# Most of it goes into a file, the last day is kept back. The file gets two faults on purpose: a row that
# stands there twice and a price of -1. It looks as others write such files, with dates as day/month/year and
# semicolons.

# %%
last_day = market.timestamps[-1]
history = prices.filter(pl.col("timestamp") < last_day)
faulty = pl.concat([history, history.slice(1_000, 1)]).with_columns(
    pl.when(pl.int_range(pl.len()) == 2_000).then(-1.0).otherwise(pl.col("close")).alias("close")
)
as_written = {"separator": ";", "date_format": "%d/%m/%Y"}
faulty.write_csv(folder / "prices.csv", **as_written)

# %% [markdown]
# Faults are reported all at once, each with its row, its value and what to do. Nothing is written.
# `on_fault="report"` would leave them out instead and list them.

# %%
try:
    bf.Panel.build(folder / "prices.csv", folder / "panel")
except bf.FarmError as error:
    print(error)

# %%
history.write_csv(folder / "prices.csv", **as_written)
panel = bf.Panel.build(folder / "prices.csv", folder / "panel")
print(panel)
for line in panel.report.lines():
    print(line)

# %% [markdown]
# A field is an array that is mapped from its file, not loaded: `(n_bars, n_assets)`, NaN = no bar. Any other
# tool opens the same files.

# %%
close = panel["close"]
print(close.shape, close.dtype, "writable:", close.flags.writeable)
print(panel.to_wide("close").select(pl.nth(0, 1, 2, 3)).tail(3))

# %% [markdown]
# What else is known goes beside the prices. Each step is a new snapshot that shares all files with the one
# before: ends of life with what was paid then, membership as of date, sectors, a series of the market (joined
# as of each bar: a value is seen from the day it is stamped with), and a score of our own.

# %%
spells = pl.DataFrame(
    {
        "symbol": panel.symbols[:40],
        "start_date": ["2010-01-04"] * 30 + ["2011-01-03"] * 10,
        "end_date": [None] * 20 + ["2011-06-01"] * 20,
    }
)
died = np.flatnonzero(market.ends.bar < market.shape[0] - 1)
ends = pl.DataFrame(
    {
        "symbol": [market.symbols[asset] for asset in died],
        "date": market.timestamps[market.ends.bar[died]],
        "payout": market.ends.payout[died],
    }
)
sectors = pl.DataFrame({"symbol": market.symbols, "sector": market.static("sector")})
returns = np.diff(np.log(close), axis=0)
stress = pl.DataFrame({"timestamp": panel.timestamps[1:], "stress": np.nanstd(returns, axis=1) * 100})
score = market.to_frame().select("timestamp", "symbol", "score").filter(pl.col("timestamp") < last_day)
panel = (
    panel.with_ends(ends)
    .with_universe("index", spells)
    .with_static("sector", sectors)
    .with_context("stress", stress)
    .with_field("score", score)
)
for name in ("ends", "fields", "contexts", "statics", "universes", "snapshot"):
    print(f"{name}: {panel.info()[name]}")

# %% [markdown]
# The last day is appended. It costs what a day costs: the old files stay as they are, and trials that do not
# see the new bar keep their keys. What the day does not carry (our score, our series) is missing on it, and
# reported.

# %%
longer = panel.append(prices.filter(pl.col("timestamp") == last_day))
print(panel.shape, "->", longer.shape)
for line in longer.report.lines():
    print(line)

# %% [markdown]
# And it can be traded: the ten best scores among the index's members, decided on the last session of each
# week, but not while the market is in stress.

# %%
result = bf.run(
    longer,
    bf.TopN(
        signal=bf.factor.field("score"),
        n=10,
        rebalance="week_end",
        filter=bf.ContextFilter(context="stress", above=3.0),
    ),
    universe="index",
)
print(result)
print(result.counters)
