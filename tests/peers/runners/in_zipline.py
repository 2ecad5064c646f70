"""Trades one case with zipline: ``python in_zipline.py CASE.npz OUT.npz``.

Bars come from memory: zipline's files hold prices to three decimals only.
"""

import sys

import numpy as np
import pandas as pd
from sqlalchemy import create_engine
from zipline import TradingAlgorithm
from zipline.api import order_target_percent, set_commission, set_slippage, sid
from zipline.assets import AssetDBWriter, AssetFinder
from zipline.data.data_portal import DataPortal
from zipline.data.in_memory_daily_bars import InMemoryDailyBarReader
from zipline.finance.commission import PerDollar
from zipline.finance.slippage import FixedBasisPointsSlippage
from zipline.finance.trading import SimulationParameters
from zipline.utils.calendar_utils import get_calendar

FIELDS = ("open", "high", "low", "close", "volume")


class Bars(InMemoryDailyBarReader):
    """Daily bars in memory, with what a data portal asks for one value at a time."""

    last_available_dt = property(lambda self: self.sessions[-1])

    def get_value(self, sid, dt, field):
        day = dt.tz_localize(None).normalize()
        return self._frames[field].at[day, int(sid)]

    def get_last_traded_dt(self, asset, dt):
        return self._frames["close"][int(asset)].loc[: dt.tz_localize(None)].last_valid_index()


def portal(case, days, calendar):
    """Return a data portal over the bars, with assets that end when they end."""
    ends = case["last_days"].astype("M8[D]").astype("M8[ns]")
    after = [days[min(days.searchsorted(end) + 1, len(days) - 1)] if end < days[-1] else None for end in ends]
    equities = pd.DataFrame({"symbol": [str(name) for name in case["symbols"]], "start_date": days[0]})
    equities["end_date"], equities["auto_close_date"], equities["exchange"] = ends, after, "X"
    engine = create_engine("sqlite://")
    exchanges = pd.DataFrame({"exchange": ["X"], "country_code": ["US"]})
    AssetDBWriter(engine).write(equities=equities, exchanges=exchanges)
    assets = range(len(case["symbols"]))
    frames = {name: pd.DataFrame(case[f"price_{name}"], index=days, columns=assets) for name in FIELDS}
    frames["volume"] = frames["volume"].fillna(0.0)
    bars = Bars(frames, calendar, pd.Series("USD", index=assets))
    return DataPortal(AssetFinder(engine), calendar, days[0], equity_daily_reader=bars)


def main(source, out):
    case = dict(np.load(source))
    days = pd.DatetimeIndex(case["days"].astype("M8[D]").astype("M8[ns]"))
    calendar = get_calendar("XNYS", start=str(days[0].date()), end=str(days[-1].date()))
    bar_of = {day: t for t, day in enumerate(days)}

    def initialize(context):
        set_commission(PerDollar(float(case["commission_bps"]) / 1e4))
        set_slippage(FixedBasisPointsSlippage(float(case["slippage_bps"]), volume_limit=1.0))

    def handle_data(context, data):
        row = case["weights"][bar_of[data.current_session]]
        for a in np.flatnonzero(np.isfinite(row)):
            order_target_percent(sid(int(a)), float(row[a]))

    algorithm = TradingAlgorithm(
        SimulationParameters(days[0], days[-1], calendar, capital_base=float(case["cash"])),
        data_portal=portal(case, days, calendar),
        initialize=initialize,
        handle_data=handle_data,
        benchmark_returns=pd.Series(0.0, index=days),
    )
    done = algorithm.run()
    fills = [each for listed in done["transactions"] for each in listed]
    np.savez(
        out,
        bars=[bar_of[each["dt"].tz_localize(None).normalize()] for each in fills],
        assets=[each["sid"].sid for each in fills],
        quantities=[float(each["amount"]) for each in fills],
        prices=[each["price"] for each in fills],
        equity=done["portfolio_value"].to_numpy(),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
