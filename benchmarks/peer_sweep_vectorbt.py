"""Runs inside vectorbt's environment: many trials in one call, the way it is fastest.

``python peer_sweep_vectorbt.py CASE.npz OUT.npz CHUNK`` trades the trials of a case, CHUNK of them in each
call: their columns stand side by side, one group a trial. It writes final equity and the number of orders of
each trial, and prints JSON: ``first`` (which compiles) and ``again``, CPU seconds of all trials, with five
metrics.
"""

# mypy: ignore-errors
# It runs where the other engine is installed, and this package is not.

import json
import os
import sys
import time

for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402 - threads are counted when it is imported
import pandas as pd  # noqa: E402
import vectorbt as vbt  # noqa: E402


def trade(close, targets, cash, fees, chunk):
    """Trade targets of shape (trials, bars, assets); return final equity and orders by trial."""
    equity, orders = [], []
    n_assets = close.shape[1]
    for first in range(0, len(targets), chunk):
        some = targets[first : first + chunk]
        group = np.repeat(np.arange(len(some)), n_assets)
        side_by_side = np.concatenate(list(some), axis=1)
        columns = pd.MultiIndex.from_arrays(
            [group, np.tile(np.arange(n_assets), len(some))], names=["trial", "asset"]
        )
        prices = pd.DataFrame(np.tile(close.to_numpy(), (1, len(some))), index=close.index, columns=columns)
        book = vbt.Portfolio.from_orders(
            prices, size=side_by_side, size_type="targetpercent", fees=fees, init_cash=cash,
            cash_sharing=True, group_by="trial", call_seq="auto", freq="1D",
        )  # fmt: skip
        for metric in (
            "total_return",
            "annualized_volatility",
            "sharpe_ratio",
            "sortino_ratio",
            "max_drawdown",
        ):
            getattr(book, metric)()
        equity += list(np.atleast_1d(book.final_value()))
        orders += list(np.atleast_1d(book.orders.count()))
    return np.array(equity), np.array(orders)


def main(source: str, out: str, chunk: str) -> None:
    """Trade all trials twice and write what came of it."""
    case = dict(np.load(source))
    days = pd.DatetimeIndex(case["days"].astype("M8[D]"))
    close = pd.DataFrame(case["price_close"], index=days)
    given = close, case["targets"], float(case["cash"]), float(case["commission_bps"]) / 1e4, int(chunk)
    seconds = []
    for _ in range(2):
        began = time.process_time()
        equity, orders = trade(*given)
        seconds.append(time.process_time() - began)
    np.savez(out, equity=equity, orders=orders)
    print(json.dumps({"first": seconds[0], "again": [seconds[1]]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
