"""Trades one case with backtrader: ``python in_backtrader.py CASE.npz OUT.npz``."""

import datetime as dt
import sys

import backtrader as bt
import numpy as np


class Bars(bt.feed.DataBase):
    """The bars of one asset, without those that are missing."""

    params = (("days", None), ("bars", None))

    def start(self):
        super().start()
        self._rows = iter(zip(self.p.days, self.p.bars, strict=True))

    def _load(self):
        for day, row in self._rows:
            if not np.isfinite(row[3]):
                continue
            lines = (self.lines.open, self.lines.high, self.lines.low, self.lines.close, self.lines.volume)
            self.lines.datetime[0] = bt.date2num(day)
            self.lines.openinterest[0] = 0.0
            for line, value in zip(lines, row, strict=True):
                line[0] = value
            return True
        return False


class Targets(bt.Strategy):
    """Orders the difference to its targets: reductions first, since orders fill as they were submitted."""

    params = (("case", None), ("percent", False))

    def __init__(self):
        days = [dt.date(1970, 1, 1) + dt.timedelta(int(day)) for day in self.p.case["days"]]
        self.bar_of = {day: t for t, day in enumerate(days)}
        self.equity = np.full(len(days), np.nan)
        self.fills = []

    def notify_order(self, order):
        if order.status == order.Completed:
            t = self.bar_of[bt.num2date(order.executed.dt).date()]
            self.fills.append((t, self.datas.index(order.data), order.executed.size, order.executed.price))

    def prenext(self):
        self.next()

    def next(self):
        t = self.bar_of[max(data.datetime.date(0) for data in self.datas if len(data))]
        self.equity[t] = value = self.broker.getvalue()
        row = self.p.case["weights"][t]
        orders = []
        for a in np.flatnonzero(np.isfinite(row)):
            data = self.datas[a]
            held = self.getposition(data).size
            target = float(row[a])
            size = target * value / data.close[0]
            orders.append((abs(size) > abs(held) and size * held >= 0, size > 0, int(a), target, size))
        for *_, a, target, size in sorted(orders):
            if self.p.percent:
                self.order_target_percent(self.datas[a], target)
            else:
                self.order_target_size(self.datas[a], size)


def main(source, out):
    case = dict(np.load(source))
    fields = ("open", "high", "low", "close", "volume")
    prices = np.stack([case[f"price_{name}"] for name in fields], axis=2)
    days = [dt.datetime(1970, 1, 1) + dt.timedelta(int(day)) for day in case["days"]]
    cerebro = bt.Cerebro(stdstats=False)
    for a, symbol in enumerate(case["symbols"]):
        cerebro.adddata(Bars(days=days, bars=prices[:, a]), name=str(symbol))
    cerebro.broker.setcash(float(case["cash"]))
    cerebro.broker.setcommission(commission=float(case["commission_bps"]) / 1e4)
    # Slippage beyond the bar's high and low, as the contract has it.
    cerebro.broker.set_slippage_perc(float(case["slippage_bps"]) / 1e4, slip_open=True, slip_out=True)
    # Otherwise an order is also refused at the close that it was made at.
    cerebro.broker.set_checksubmit(False)
    cerebro.addstrategy(Targets, case=case, percent=bool(case.get("percent", False)))
    (strategy,) = cerebro.run()
    bars, assets, quantities, paid = zip(*strategy.fills, strict=True)
    np.savez(out, bars=bars, assets=assets, quantities=quantities, prices=paid, equity=strategy.equity)


if __name__ == "__main__":
    main(*sys.argv[1:])
