"""Trades one case of one asset with backtesting.py: ``python in_backtesting.py CASE.npz OUT.npz``."""

import sys
import warnings

import numpy as np
import pandas as pd
from backtesting import Backtest, Strategy

WHOLE = 1.0 - sys.float_info.epsilon
"""A size of 1 is one share; the largest part of the money is just below."""


class Targets(Strategy):
    """Closes what is held, then opens the other side, as large a part of the money as the target says."""

    def init(self):
        pass

    def next(self):
        weight = self.weights[len(self.data) - 1]
        if not np.isfinite(weight):
            return
        self.position.close()
        # Its sizes leave room for the commission of the order, the contract's do not.
        part = min(abs(weight) * (1.0 + self.rate), WHOLE)
        if weight:
            self.buy(size=part) if weight > 0 else self.sell(size=part)


def main(source, out):
    case = dict(np.load(source))
    days = pd.DatetimeIndex(case["days"].astype("M8[D]"))
    names = ("open", "high", "low", "close", "volume")
    bars = pd.DataFrame({name.title(): case[f"price_{name}"][:, 0] for name in names}, index=days)
    Targets.weights, Targets.rate = case["weights"][:, 0], float(case["commission_bps"]) / 1e4
    test = Backtest(bars, Targets, cash=float(case["cash"]), commission=Targets.rate, finalize_trades=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = test.run()
    left = done["_strategy"].trades
    trades = [*done["_strategy"].closed_trades, *left]
    fills = [(each.entry_bar, each.size, each.entry_price) for each in trades]
    fills += [(each.exit_bar, -each.size, each.exit_price) for each in trades if each not in left]
    when, quantities, prices = zip(*fills, strict=True)
    equity = done["_equity_curve"]["Equity"].to_numpy()
    np.savez(
        out, bars=when, assets=np.zeros(len(when), int), quantities=quantities, prices=prices, equity=equity
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
