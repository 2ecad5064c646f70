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
# # A first sweep
#
# Build a small synthetic panel, try 36 momentum portfolios on it in this process, look at the best ones,
# and replay one of them bar by bar. Open this file with jupytext, or run it as a script.

# %%
import tempfile
from pathlib import Path

import polars as pl

import backtest_farm as bf

pl.Config(float_precision=3, tbl_cols=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True)
folder = Path(tempfile.mkdtemp(prefix="first-sweep-"))

# %% [markdown]
# A panel is a folder of standard Parquet files. `bf.Panel.build(source, path)` makes one from your own
# prices; this one is made up, but has listings, delistings and gaps like a real one.

# %%
panel = bf.synthetic_panel(folder / "panel", n_bars=750, n_assets=80, seed=1)
print(panel.shape, panel.fields)
print(panel.timestamps[0], "to", panel.timestamps[-1])

# %% [markdown]
# One backtest first: the ten names that rose most over half a year, without the last month, decided on the
# last session of each month. It decides on the close, fills at the next open and pays 10 bps.

# %%
result = bf.run(panel, bf.TopN(signal=bf.factor.momentum(126, skip=21), n=10, rebalance="month_end"))
for name in ("total_return", "sharpe", "max_drawdown", "turnover", "costs"):
    print(f"{name:>14} {result.metrics[name]:>12,.3f}")

# %% [markdown]
# `bf.axis` marks what is tried; everything else is fixed. The plan says what a sweep would cost, and runs
# nothing. `start: auto` begins where the longest look-back has a value, so that all trials are judged on the
# same bars.

# %%
sweep = bf.Sweep(
    panel=panel,
    strategy=bf.TopN(
        signal=bf.factor.momentum(lookback=bf.axis([42, 126, 252]), skip=bf.axis([0, 21])),
        n=bf.axis([5, 10, 20]),
        rebalance=21,
    ),
    costs=bf.Costs(commission_bps=bf.axis([0.0, 10.0])),
    window={"start": "auto"},
)
plan = sweep.plan()
for name in ("trials", "unique_factors", "n_bars", "cpu_seconds", "memory_per_worker_bytes", "executor"):
    print(f"{name}: {plan[name]}")

# %%
study = sweep.run(store=folder / "study", executor="inline", progress=False)
best = study.best(5, by="sharpe")
columns = ["trial", "signal.lookback", "signal.skip", "n", "costs.commission_bps", "sharpe", "max_drawdown"]
print(best.select(columns))

# %% [markdown]
# Running it again runs nothing: the study has all rows.

# %%
again = sweep.run(store=folder / "study", executor="inline", progress=False)
print("run again:", again.summary()["executed"], "of", again.summary()["trials"])

# %% [markdown]
# A replay runs one trial again and compares its digest with the stored one: what you see is what was
# ranked.

# %%
result = study.replay(int(best["trial"][0]))
result.check_ledger()
print(result.equity.select("timestamp", "equity", "turnover", "positions").tail(5))
print(result.fills.select("timestamp", "symbol", "quantity", "price", "commission", "reason").head(5))

# %% [markdown]
# What did costs do? The same parameters, with and without commission, side by side.

# %%
trials = study.trials().collect()
axes = ["signal.lookback", "signal.skip", "n"]
print(trials.pivot("costs.commission_bps", index=axes, values="sharpe").sort(axes))
