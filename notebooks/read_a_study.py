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
# # Reading a study
#
# A study is a folder of Arrow files: one row a trial. This notebook runs a small sweep over universes,
# signals, sizes and costs, asks it questions with polars and with SQL, draws a heat map and curves, and
# replays the winner.

# %%
import tempfile
from pathlib import Path

import duckdb
import polars as pl

import backtest_farm as bf

pl.Config(float_precision=3, tbl_cols=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True)
folder = Path(tempfile.mkdtemp(prefix="read-a-study-"))
panel = bf.synthetic_panel(folder / "panel", n_bars=750, n_assets=120, seed=2)
sweep = bf.Sweep(
    panel=panel,
    universes=["all", {"draw": 2, "size": 60, "seed": 7}],
    strategy=bf.TopN(
        signal=bf.factor.momentum(lookback=bf.axis([21, 63, 126, 189]), skip=5),
        n=bf.axis([5, 10, 20, 40]),
        rebalance=bf.axis([5, "month_end"]),
    ),
    costs=bf.Costs(commission_bps=bf.axis([0, 10])),
    window={"start": "auto"},
)
study = sweep.run(store=folder / "study", executor="inline", progress=False)
print(study)

# %% [markdown]
# `study.trials()` is a polars LazyFrame. How much do costs take, by schedule?

# %%
trials = study.trials().filter(pl.col("status") == "ok")
by_cost = trials.group_by("rebalance", "costs.commission_bps", maintain_order=True).agg(
    pl.col("sharpe").median().round(3), pl.col("turnover").median().round(1), trials=pl.len()
)
print(by_cost.collect())

# %% [markdown]
# The same in SQL. DuckDB reads the frame where it is.

# %%
rows = trials.collect()
query = """
    select "signal.lookback" as lookback, universe, round(median(sharpe), 3) as sharpe, count(*) as trials
    from rows group by all order by sharpe desc limit 5
"""
print(duckdb.sql(query).pl())

# %% [markdown]
# The best trial of a sweep is the best of many: it is lucky, too. A plateau says more than a peak. Each cell
# is the median over all other parameters.

# %%
study.plot("signal.lookback", "n", "sharpe", path=folder / "heat-map.png")
study.plot("signal.lookback", "n", "sharpe")

# %% [markdown]
# The numbers behind it, and a verdict on the winner's neighbours:

# %%
from backtest_farm.analysis import Grid, plot_curves

grid = Grid.of(study)
print(grid.cells("signal.lookback", "n", "sharpe").by["median"].round(2))
winner = int(study.best(1)["trial"][0])
print("trial", winner, "stands on a", grid.neighbourhood(winner, "sharpe").verdict)

# %% [markdown]
# Curves of the leading trials are kept; any other is computed again when asked for.
# `rebalance` is text, because its axis has numbers and words.

# %%
best = study.best(3)
print(best.select("trial", "universe", "signal.lookback", "n", "rebalance", "sharpe", "max_drawdown"))
curves = pl.concat(
    study.equity(number).select("timestamp", "equity").with_columns(trial=number) for number in best["trial"]
)
print(curves.pivot("trial", index="timestamp", values="equity").tail(3))
plot_curves(study, 3)

# %% [markdown]
# The winner again, bar by bar. Its digest is compared with the stored one: what you see is what was ranked.

# %%
result = study.replay(winner)
result.check_ledger()
print(result.trades.sort("pnl").select("symbol", "entry_timestamp", "exit_timestamp", "pnl").head(3))
result.plot()

# %% [markdown]
# One file for somebody who has none of this installed:

# %%
print(study.report(folder / "study.html").name)
