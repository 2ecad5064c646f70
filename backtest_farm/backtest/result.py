"""Result: what one backtest gives back. Frames are made when they are asked for."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest_farm.backtest.ledgers import Fill, Profit, holdings, profits, round_trips
from backtest_farm.engine.tile import Market, TileResult
from backtest_farm.errors import InputError
from backtest_farm.kernel import CONTRACT_VERSION, RESULT_EPOCH
from backtest_farm.kernel.state import BAR_COLUMNS, BORROW, COUNTERS, FILL_VALUES, REASONS, Terms
from backtest_farm.kernel.summary import METRICS

if TYPE_CHECKING:
    import polars as pl


class Result:
    """One backtest: its equity curve, its ledger of fills, its metrics and its digest.

    Attributes
    ----------
    metrics : dict of str to float
        One value per name of the contract; undefined ones are NaN. `bars_per_year` stands beside them.
    counters : dict of str to int
        How often each reason occurred.
    timings : dict of str to float
        Seconds by stage; no part of any digest.
    digest : str
        32 hexadecimal digits over equity, cash, traded notional and costs of every bar and the counters.
    status : str
        ``ok``, or ``error`` when equity was not a finite number on some bar.
    profile : str
        The named set of rules.
    look_ahead : bool
        Whether orders filled at a price that their decision had seen (``same_close``).
    """

    def __init__(
        self,
        tile: TileResult,
        timestamps: np.ndarray,
        symbols: tuple[str, ...],
        *,
        cash: float,
        bars_per_year: float,
        market: Market,
        terms: Terms,
        timings: dict[str, float],
        profile: str,
        fill: str,
    ) -> None:
        self._record = tile.record
        self._market = market
        self._terms = terms
        self._timestamps = timestamps
        self._symbols = symbols
        self.cash = cash
        self.bars_per_year = bars_per_year
        self.metrics: dict[str, float] = dict(zip(METRICS, tile.metrics[0].tolist(), strict=True))
        self.counters: dict[str, int] = dict(zip(COUNTERS, tile.counters[:, 0].tolist(), strict=True))
        self.timings = timings
        self.digest = tile.digests[0]
        self.status = "error" if tile.broken[0] else "ok"
        self.profile = profile
        self.look_ahead = fill == "same_close"
        self._at_close = fill != "next_open"
        self.contract_version = CONTRACT_VERSION
        self.result_epoch = RESULT_EPOCH

    @cached_property
    def equity(self) -> pl.DataFrame:
        """One row a bar: timestamp, equity, cash, gross, net, turnover, costs, financing, dividends,
        positions.

        Money is in the currency of the prices; gross, net and turnover are fractions of equity, NaN where
        that is not positive.
        """
        import polars as pl

        columns: dict[str, Any] = {"timestamp": self._timestamps}
        for at, name in enumerate(BAR_COLUMNS):
            columns[name] = np.ascontiguousarray(self._record.bars[:, at, 0])
        return pl.DataFrame(columns).with_columns(pl.col("positions").cast(pl.Int32))

    @cached_property
    def fills(self) -> pl.DataFrame:
        """The ledger, in the order made: one row a fill.

        Columns: decision_bar, bar, timestamp (of the fill), symbol, quantity (buy > 0), base, price (per
        unit), commission, spread, slippage, impact (money), reason.
        """
        import polars as pl

        used = int(self._record.used[0])
        _, decided, bars, assets, reasons, _ = self._record.keys[:used].T
        columns: dict[str, Any] = {
            "decision_bar": decided,
            "bar": bars,
            "timestamp": self._timestamps[bars],
            "symbol": pl.Series([self._symbols[a] for a in assets.tolist()], dtype=pl.String),
        }
        for at, name in enumerate(FILL_VALUES):
            columns[name] = np.ascontiguousarray(self._record.values[:used, at])
        columns["reason"] = pl.Series([REASONS[code] for code in reasons.tolist()], dtype=pl.String)
        return pl.DataFrame(columns)

    @cached_property
    def trades(self) -> pl.DataFrame:
        """Round trips that ended, in the order of their ends: see `ledgers.round_trips`.

        Columns: symbol, side, quantity, entry_bar, exit_bar, entry_timestamp, exit_timestamp, entry_price,
        exit_price, bars_held, pnl, mfe, mae, reason.
        """
        import polars as pl

        schema = {
            "asset": pl.Int64, "side": pl.Int64, "quantity": pl.Float64, "entry_bar": pl.Int64,
            "exit_bar": pl.Int64, "entry_price": pl.Float64, "exit_price": pl.Float64, "bars_held": pl.Int64,
            "pnl": pl.Float64, "mfe": pl.Float64, "mae": pl.Float64, "reason": pl.Int64,
        }  # fmt: skip
        trips = pl.DataFrame(round_trips(self._ledger(), self._market, self._at_close), schema)
        moments = {
            f"{end}_timestamp": self._timestamps[trips[f"{end}_bar"].to_numpy()] for end in ("entry", "exit")
        }
        named = trips.with_columns(
            pl.Series("symbol", [self._symbols[a] for a in trips["asset"]], pl.String),
            pl.Series("reason", [REASONS[code] for code in trips["reason"]], pl.String),
            **{name: pl.Series(name, values) for name, values in moments.items()},
        )
        first = ["symbol", "side", "quantity", "entry_bar", "exit_bar", "entry_timestamp", "exit_timestamp"]
        return named.select(*first, "entry_price", "exit_price", "bars_held", "pnl", "mfe", "mae", "reason")

    @cached_property
    def positions(self) -> pl.DataFrame:
        """What was held at the end of each bar: timestamp, symbol, quantity, value (money, at the mark)."""
        import polars as pl

        rows = list(holdings(self._ledger(), self._market))
        bars, assets, quantities, values = zip(*rows, strict=True) if rows else ((), (), (), ())
        columns: dict[str, Any] = {
            "timestamp": self._timestamps[np.array(bars, np.int64)],
            "symbol": pl.Series([self._symbols[a] for a in assets], dtype=pl.String),
            "quantity": pl.Series(quantities, dtype=pl.Float64),
            "value": pl.Series(values, dtype=pl.Float64),
        }
        return pl.DataFrame(columns)

    @cached_property
    def pnl(self) -> pl.DataFrame:
        """What each symbol added to equity: symbol, realised, open, commission, borrow, dividends, total.

        Money, negative where it cost; see `ledgers.Profit`. Spread, slippage and impact are in the prices of
        fills, and so in realised and open. The last row, without a symbol, has as its total what cash earned
        or cost. Starting cash and all totals together are the last equity, up to rounding.
        """
        import polars as pl

        terms, bars = self._terms, self._record.bars[:, :, 0]
        rates = np.broadcast_to(terms.costs[terms.cost_row[0], :, BORROW], len(self._symbols))
        found = profits(self._ledger(), self._market, rates / self._market.bars_per_year)
        nights = bars[:-1, BAR_COLUMNS.index("cash")]
        interest = nights * np.where(nights > 0.0, *terms.interest[0]) / self._market.bars_per_year
        rows: list[tuple] = [(self._symbols[asset], *each, sum(each)) for asset, each in found.items()]
        rows.append((None, *(None for _ in Profit._fields), float(interest.sum())))
        schema = {"symbol": pl.String, **dict.fromkeys([*Profit._fields, "total"], pl.Float64)}
        return pl.DataFrame(rows, schema, orient="row")

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw equity, drawdown and exposure.

        Parameters
        ----------
        path : str or path, optional
            A ``.png``, ``.svg`` or ``.html`` file to write instead of only returning the figure.

        Returns
        -------
        plotly.graph_objects.Figure
        """
        # By name: the analysis room lies above this one, and is loaded only when somebody looks.
        return pkgutil.resolve_name("backtest_farm.analysis:plot_result")(self, path)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write one self-contained HTML file about this backtest, and return its path."""
        return pkgutil.resolve_name("backtest_farm.analysis:report_result")(self, path)

    def _ledger(self) -> Iterator[Fill]:
        used = int(self._record.used[0])
        keys, values = self._record.keys[:used].tolist(), self._record.values[:used].tolist()
        for (_, _, bar, asset, reason, flat), (quantity, base, price, commission, *_) in zip(
            keys, values, strict=True
        ):
            yield Fill(bar, asset, reason, flat, quantity, base, price, commission)

    def rebuilt_cash(self) -> np.ndarray:
        """Return cash at the end of every bar as fills, financing and dividends give it, shape (n_bars,).

        Cash moves by exactly ``quantity * price + commission`` of each fill, so this equals the curve's
        cash up to rounding; a difference means that the ledger or the curve is wrong.
        """
        used = int(self._record.used[0])
        quantity, _, price, commission = self._record.values[:used, :4].T
        financing, dividends = (
            self._record.bars[:, BAR_COLUMNS.index(name), 0] for name in ("financing", "dividends")
        )
        flows = dividends - financing
        np.add.at(flows, self._record.keys[:used, 2], -(quantity * price + commission))
        return self.cash + np.cumsum(flows)

    def check_ledger(self) -> None:
        """Check that the fills rebuild the cash of every bar, to 1e-9 of the money at work.

        Raises
        ------
        InputError
            If they do not: the first bar that differs, and by how much.
        """
        cash = self._record.bars[:, BAR_COLUMNS.index("cash"), 0]
        equity = np.abs(self._record.bars[:, 0, 0])
        off = np.abs(self.rebuilt_cash() - cash)
        bad = np.flatnonzero(off > 1e-9 * np.maximum.accumulate(np.maximum(equity, self.cash)))
        if len(bad):
            t = int(bad[0])
            raise InputError(
                f"the fills do not rebuild the cash of bar {t} ({self._timestamps[t]}): off by {off[t]:g}"
            )

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name} {self.metrics[name]:.4g}" for name in ("total_return", "sharpe", "max_drawdown")
        )
        size = f"{len(self._timestamps):,} bars, {self.counters['fills']:,} fills"
        return f"Result({size}, {shown}, digest {self.digest[:12]})"
