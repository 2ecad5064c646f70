"""Result: what one backtest gives back. Frames are made when they are asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest_farm.engine.tile import TileResult
from backtest_farm.errors import InputError
from backtest_farm.kernel import CONTRACT_VERSION, RESULT_EPOCH
from backtest_farm.kernel.state import BAR_COLUMNS, COUNTERS, FILL_VALUES, REASONS
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
    """

    def __init__(
        self,
        tile: TileResult,
        timestamps: np.ndarray,
        symbols: tuple[str, ...],
        *,
        cash: float,
        bars_per_year: float,
        timings: dict[str, float],
        profile: str = "default",
    ) -> None:
        self._record = tile.record
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
        _, decided, bars, assets, reasons = self._record.keys[:used].T
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

    def rebuilt_cash(self) -> np.ndarray:
        """Return cash at the end of every bar as the ledger of fills alone gives it, shape (n_bars,).

        Cash moves by exactly ``quantity * price + commission`` of each fill, so this equals the curve's
        cash up to rounding; a difference means that the ledger or the curve is wrong.
        """
        used = int(self._record.used[0])
        quantity, _, price, commission = self._record.values[:used, :4].T
        flows = np.zeros(len(self._timestamps))
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
