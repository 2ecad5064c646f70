"""Trades one case with vectorbt: ``python in_vectorbt.py CASE.npz OUT.npz``."""

import sys

import numpy as np
import pandas as pd
import vectorbt as vbt


def main(source, out):
    case = dict(np.load(source))
    days = pd.DatetimeIndex(case["days"].astype("M8[D]"))
    close = pd.DataFrame(case["price_close"], index=days, columns=[str(name) for name in case["symbols"]])
    weights = case["weights"].copy()
    price, fees = close.to_numpy(copy=True), np.full(close.shape, float(case["commission_bps"]) / 1e4)
    # An end of life: it has no such thing, but takes an order at the last close a day later, without costs.
    for a, last in enumerate(case["last_days"]):
        t = int(np.searchsorted(case["days"], last))
        if t + 1 < len(days):
            price[t + 1, a], fees[t + 1, a], weights[t + 1, a] = price[t, a], 0.0, 0.0
    book = vbt.Portfolio.from_orders(
        close,
        size=weights,
        size_type="targetpercent",
        price=price,
        fees=fees,
        slippage=float(case["slippage_bps"]) / 1e4,
        init_cash=float(case["cash"]),
        cash_sharing=True,
        group_by=True,
        call_seq="auto",
        freq="1D",
    )
    orders = book.orders.records
    np.savez(
        out,
        bars=orders["idx"],
        assets=orders["col"],
        quantities=np.where(orders["side"] == 0, orders["size"], -orders["size"]),
        prices=orders["price"],
        equity=book.value().to_numpy(),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
