"""Trades one case with bt: ``python in_bt.py CASE.npz OUT.npz``.

Quantities are worked out here and handed to bt's ``transact``; with the option ``percent`` bt's own
``rebalance`` finds them.
"""

import sys

import bt
import numpy as np
import pandas as pd


class Targets(bt.Algo):
    """Brings the assets of one row to their targets at the close that it has just seen."""

    def __init__(self, case, close):
        super().__init__()
        self.case, self.close = case, close
        self.bar_of = {day: t for t, day in enumerate(close.index)}
        self.after = np.searchsorted(case["days"], case["last_days"]) + 1
        self.rate = float(case["commission_bps"]) / 1e4
        self.equity, self.fills = np.full(len(close), np.nan), []

    def commission(self, quantity, price):
        return abs(quantity) * price * self.rate

    def __call__(self, target):
        t = self.bar_of[target.now]
        base = target.value
        # The end of a life: it has no such thing, but takes a sale at the last close, free of costs.
        rate, self.rate = self.rate, 0.0
        for a in np.flatnonzero(self.after == t):
            self.trade(target, t, a, 0.0, base, own=False, slippage=0.0)
        self.rate = rate
        for a in np.flatnonzero(np.isfinite(self.case["weights"][t])):
            weight = float(self.case["weights"][t, a])
            own, slippage = bool(self.case.get("percent", False)), float(self.case["slippage_bps"]) / 1e4
            self.trade(target, t, a, weight, base, own, slippage)
        target.root.update(target.now)
        self.equity[t] = target.value
        return True

    def trade(self, target, t, a, weight, base, own, slippage):
        name, price = self.close.columns[a], self.close.iat[t, a]
        held = target.children[name].position if name in target.children else 0.0
        if own:
            target.rebalance(weight, child=name, base=base, update=False)
        elif weight or held:
            quantity = weight * base / price - held
            price *= 1.0 + np.copysign(slippage, quantity)
            target._create_child_if_needed(name)
            target.children[name].transact(quantity, update=False, price=price)
        traded = (target.children[name].position if name in target.children else 0.0) - held
        if traded:
            self.fills.append((t, a, traded, price))


def main(source, out):
    case = dict(np.load(source))
    names = [str(name) for name in case["symbols"]]
    days = pd.DatetimeIndex(case["days"].astype("M8[D]"))
    close = pd.DataFrame(case["price_close"], index=days, columns=names).ffill()
    targets = Targets(case, close)
    test = bt.Backtest(
        bt.Strategy("targets", [targets]),
        close,
        initial_capital=float(case["cash"]),
        commissions=targets.commission,
        integer_positions=False,
        # A spread of nothing, without which bt takes no fill price but the close.
        additional_data={"bidoffer": close * 0.0},
    )
    # bt copies the strategy with its algos: what was recorded is in the copy.
    test.strategy.set_commissions(test.strategy.stack.algos[0].commission)
    test.run()
    done = test.strategy.stack.algos[0]
    bars, assets, quantities, prices = zip(*done.fills, strict=True)
    np.savez(out, bars=bars, assets=assets, quantities=quantities, prices=prices, equity=done.equity)


if __name__ == "__main__":
    main(*sys.argv[1:])
