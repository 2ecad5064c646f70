"""Trades one case with ml4t-backtest: ``python in_ml4t.py CASE.npz OUT.npz``."""

import sys

import numpy as np
import polars as pl
from ml4t.backtest import (
    BacktestConfig,
    CommissionType,
    DataFeed,
    Engine,
    OrderSide,
    RebalanceConfig,
    Strategy,
    TargetWeightExecutor,
)
from ml4t.backtest.config import ShareType, ShortCashPolicy, SlippageType

FIELDS = ("open", "high", "low", "close", "volume")


class Targets(Strategy):
    """Hands whole sets of weights to the package's own executor; single changes become orders here."""

    def __init__(self, case, days):
        self.case, self.names = case, [str(name) for name in case["symbols"]]
        self.bar_of = {day: t for t, day in enumerate(days)}
        self.executor = TargetWeightExecutor(RebalanceConfig(allow_fractional=True, allow_short=True))

    def on_data(self, timestamp, data, context, broker):
        row = self.case["weights"][self.bar_of[timestamp]]
        if np.isfinite(row).all():
            targets = {name: float(weight) for name, weight in zip(self.names, row, strict=True) if weight}
            self.executor.execute(targets, data, broker)
            return
        value = broker.get_account_value()
        for a in np.flatnonzero(np.isfinite(row)):
            held = broker.get_position(self.names[a])
            held = held.quantity if held else 0.0
            size = float(row[a]) * value / data[self.names[a]]["close"] - held
            if size:
                broker.submit_order(self.names[a], abs(size), OrderSide.BUY if size > 0 else OrderSide.SELL)


def main(source, out):
    case = dict(np.load(source))
    days = case["days"].astype("M8[D]").astype("M8[us]")
    bars, assets = np.nonzero(np.isfinite(case["price_close"]))
    frame = pl.DataFrame(
        {"timestamp": days[bars], "symbol": [str(case["symbols"][a]) for a in assets]}
        | {name: case[f"price_{name}"][bars, assets] for name in FIELDS}
    )
    config = BacktestConfig(
        initial_cash=float(case["cash"]),
        share_type=ShareType.FRACTIONAL,
        allow_short_selling=True,
        short_cash_policy=ShortCashPolicy.CREDIT_PROCEEDS,
        commission_type=CommissionType.PERCENTAGE,
        commission_rate=float(case["commission_bps"]) / 1e4,
        slippage_type=SlippageType.PERCENTAGE,
        slippage_rate=float(case["slippage_bps"]) / 1e4,
    )
    stamps = days.tolist()
    result = Engine(DataFeed(prices_df=frame), Targets(case, stamps), config).run()
    fills, equity = result.to_fills_dataframe(), result.to_equity_dataframe()
    bar_of = {day: t for t, day in enumerate(stamps)}
    asset_of = {str(name): a for a, name in enumerate(case["symbols"])}
    np.savez(
        out,
        bars=[bar_of[each] for each in fills["timestamp"]],
        assets=[asset_of[each] for each in fills["asset"]],
        quantities=fills["signed_quantity"].to_numpy(),
        prices=fills["price"].to_numpy(),
        equity=equity["equity"].to_numpy(),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
