"""From specs and a panel to finished trials: their windows, terms and targets."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from backtest_farm.engine.crossings import prepare_crossings, timed_asset
from backtest_farm.engine.targets import EVERY_BAR, fits, prepare, ranked_depth, units_of
from backtest_farm.engine.tile import MODES, Market, TileResult, run_tile, terms, with_portfolio
from backtest_farm.engine.tile import market as market_from
from backtest_farm.errors import InputError, nearest
from backtest_farm.factors.fields import everything, factor_field
from backtest_farm.factors.own import PastPanel
from backtest_farm.factors.ranks import Window
from backtest_farm.identity import digest
from backtest_farm.kernel import state
from backtest_farm.kernel.state import Terms
from backtest_farm.panel import Panel
from backtest_farm.spec import Trading, Universe, leaves_of, value_at, values_of
from backtest_farm.spec import Window as WindowSpec
from backtest_farm.spec.inputs import BY_ASSET, INPUTS, STATIC, asked, is_static
from backtest_farm.strategy import AnyStrategy, Strategy
from backtest_farm.strategy.own import NO_SAME_CLOSE, block_of, decides_by_bar, signal_of, warmup_of

PRICE_FIELDS = ("open", "close")
"""What every backtest reads to fill and to mark."""

MORE_PRICES = ("high", "low", "volume")
"""What is read in the blocks of the panel; other fields that trading reads are read as one."""

CODES: dict[str, dict[str, int]] = {
    "fill": {
        "next_open": state.NEXT_OPEN, "next_close": state.NEXT_CLOSE, "same_close": state.SAME_CLOSE
    },
    "sizing": {"decision": state.SIZE_AT_DECISION, "fill": state.SIZE_AT_FILL},
    "afford": {
        "scale": state.SCALE, "greedy": state.GREEDY, "reject": state.REJECT, "allow": state.ALLOW
    },
}  # fmt: skip
"""Words that the kernel knows by a number."""

MADE_BY = {"sigma": "volatility(21)", "adv": 'mean("volume", 21)', "atr": "atr(14)"}
"""The factors that make the fields which settings name."""
NO_VOLUME = "build the panel from bars with volume, or leave it out"

LIMITS = ("max_wait", "margin", "lot", "band", "band_rel", "min_notional", "participation", "carry")

Values = Callable[[str], Sequence[Any]]
"""Gives one parameter of all trials by the name it has in results: ``n``, ``costs.commission_bps``."""


class Ran(NamedTuple):
    """A tile that ran.

    Attributes
    ----------
    tile : TileResult
    market : Market
        What it ran on.
    builds : dict of str to int
        What was computed for it: see `Prepared`.
    seconds : dict of str to float
        By stage.
    """

    tile: TileResult
    market: Market
    builds: dict[str, int]
    seconds: dict[str, float]


class Ready(NamedTuple):
    """Trials whose targets are known.

    Attributes
    ----------
    run : callable
        Gives the tile for a market, terms and what to record.
    portfolio : mapping
        What the trials do with their targets: see `with_portfolio`.
    builds : mapping of str to int
        See `Ran`.
    began : float
        When making them ready began.
    """

    run: Callable[..., TileResult]
    portfolio: Mapping[str, Any]
    builds: Mapping[str, int]
    began: float


def window_of(panel: Panel, window: WindowSpec, strategies: Sequence[AnyStrategy | Strategy] = ()) -> Window:
    """Return the bars of the panel that a window means: both its ends are included.

    Parameters
    ----------
    panel : Panel
    window : backtest_farm.spec.Window
        A start of ``auto`` is the first bar on which all signals can have values.
    strategies : sequence of AnyStrategy
        Those that trade in it.

    Raises
    ------
    InputError
        If no bar of the panel lies in the window, or a strategy could not choose anything on any of them.
    """
    stop = panel.shape[0] if window.end is None else panel.bar_of(window.end, "right")
    living = max((_first_signal(panel, each) for each in strategies), default=0)
    if window.start == "auto":
        start = living
    else:
        start = 0 if window.start is None else panel.bar_of(window.start, "left")
    if living >= stop:
        raise InputError(
            f"the signals need {living:,} bars before they have values, but only {stop:,} lie before the "
            "window's end: there is no signal on any of them",
            hint="take shorter look-backs, or a panel with a longer past",
        )
    if start >= stop:
        raise InputError(
            f"no bar of the panel lies in the window {window.start or ''} .. {window.end or ''}",
            hint=f"the panel's bars are {panel.timestamps[0]} .. {panel.timestamps[-1]}",
        )
    return Window(start, stop)


def _first_signal(panel: Panel, strategy: AnyStrategy | Strategy) -> int:
    """Return the first bar on which a strategy's longest signal can have a value."""
    if isinstance(strategy, Strategy):
        return warmup_of(strategy)
    first = 0
    for name in strategy.fields:
        first = max(first, _first_value(panel, name))
    for name in strategy.contexts:
        known = np.flatnonzero(np.isfinite(panel.context(name)))
        first = max(first, int(known[0]) if len(known) else panel.shape[0])
    return first + strategy.warmup


@lru_cache(maxsize=32)
def _first_value(panel: Panel, name: str) -> int:
    """Return the first bar on which a field has a value."""
    rows = (t for t in range(panel.shape[0]) if np.isfinite(panel.read(name, t, t + 1)).any())
    return next(rows, panel.shape[0])


def _one(values: Values, path: str) -> Any:
    """Return what all trials of a tile share, of those that have it: what decides what the tile reads."""
    shared = {each for each in values(path) if each is not None}
    if len(shared) > 1:
        raise RuntimeError(f"trials with {len(shared)} values of {path} are in one tile")
    return shared.pop() if shared else None


def used_by(panel: Panel, values: Values, *, looked_at: bool = False) -> tuple[tuple[str, str], ...]:
    """Return what the trials of a tile use of a panel beside opens and closes.

    Parameters
    ----------
    panel : Panel
    values : Values
    looked_at : bool, default False
        Whether round trips will be looked at, which read highs and lows.

    Returns
    -------
    tuple of (str, str)
        For what the market takes (``high``, ``volume``, ``atr``, ...) the name of the panel's field.
    """
    found: dict[str, str] = {}
    for one in INPUTS:
        if one.kind == "static":
            continue
        if one.on([_one(values, one.path)] if one.shared else values(one.path)) or (
            looked_at and not one.shared
        ):
            found |= {name: _one(values, f"{one.part}.{name}") for name in one.by}
            found |= {name: name for name in one.names if one.kind == "field" or name in panel.fields}
    return tuple(found.items())


@lru_cache(maxsize=2)  # the atoms of a sweep come one after the other for the same market
def market_of(
    panel: Panel, window: Window, universe: Universe, used: tuple[tuple[str, str], ...] = ()
) -> Market:
    """Return prices, membership, events and ends of life of a window: mapped, except where a block was
    written before some assets were listed. `used` is what `used_by` returns."""
    blocks = []
    in_blocks = [*PRICE_FIELDS, *(name for name, _ in used if name in MORE_PRICES)]
    whole = {name: panel.read(field, *window) for name, field in used if name not in MORE_PRICES}
    for slab in panel.slabs():
        start, stop = max(window.start, slab.first), min(window.stop, slab.first + slab.n_bars)
        if start < stop:
            blocks.append({name: panel.read(name, start, stop) for name in in_blocks})
    everyone = universe == Universe()
    return market_from(
        blocks,
        panel.ends.bar - window.start,
        panel.ends.payout,
        panel.bars_per_year,
        member=None if everyone else panel.members(universe)[window.start : window.stop],
        **whole,
    )


def data_digest(panel: Panel, spec: Any, window: Window) -> str:
    """Return the hash of everything that a trial takes from a panel, and of where it begins.

    The first bar is part of it because ``start: auto`` depends on the other strategies of the sweep.

    Parameters
    ----------
    panel : Panel
    spec : SweepSpec
        Without axes, but for what trials with the same inputs may differ in.
    window : Window
    """
    strategy, reads = spec.strategy, spec.reads
    if isinstance(strategy, Strategy):
        return digest({"content": everything(panel, window.stop), "first_bar": window.start})
    fields = {*PRICE_FIELDS, *strategy.fields, *reads.fields, *({*reads.offered} & {*panel.fields})}
    content = panel.digest(fields, window.stop, strategy.contexts, reads.statics)
    return digest({"content": content, "bars_per_year": panel.bars_per_year, "first_bar": window.start})


def run_trials(
    panel: Panel,
    window: Window,
    spec: Any,
    universe: Universe,
    n_trials: int,
    values: Values,
    depth: int | None,
) -> Ran:
    """Run trials that share a signal, a universe and a filter, and are `alike`, in one tile.

    Parameters
    ----------
    panel, window : Panel, Window
    spec : SweepSpec
        Any one of the trials, without axes.
    universe : Universe
    n_trials : int
    values : Values
    depth : int or None
        See `prepare`.
    """
    ready = made_ready(panel, window, spec.strategy, spec, universe, n_trials, values, depth)
    trials = terms_of(panel, window.stop, n_trials, values)
    return simulated(panel, window, universe, used_by(panel, values), trials, ready)


def made_ready(
    panel: Panel,
    window: Window,
    strategy: Any,
    trading: Trading,
    universe: Universe,
    n_trials: int,
    values: Values,
    depth: int | None,
    kept: bool = True,
) -> Ready:
    """Return the trials of `run_trials` with their targets.

    Parameters
    ----------
    strategy, trading
        Of any one of them, without axes.
    kept : bool
        Whether the node's cache keeps the signal of a user's class.
    """
    began = time.process_time()
    signal = signal_of(strategy, kept)
    if isinstance(strategy, Strategy):
        if decides_by_bar(type(strategy)):
            return _by_bar(panel, window, strategy, trading, signal, began)
        blocks = blocks_of(strategy, values, n_trials)
        fits(panel, {*blocks})
        check_terms(panel, trading, units_of(blocks), window.stop)
        strategy, values = blocks[0], _block_values(blocks, values)
        # To one of a few depths, so that atoms share rankings.
        most = max((each.most_names or 0 for each in blocks), default=0)
        depth = None if ranked_depth(blocks) is None else 64 << max(0, (most - 1).bit_length() - 6)
    rebalances = values("rebalance") if hasattr(strategy, "rebalance") else [EVERY_BAR] * n_trials
    asset = timed_asset(panel, window, universe, strategy)
    if asset is None:
        if strategy.kind == "CrossOver" and strategy.fast is not None:
            # `alike` lets those of one pair alone share a tile, but not all of an atom have the first one's.
            pair = {name: values(name)[0] for name in ("fast", "slow")}
            signal = strategy.model_copy(update=pair).signal
        made = prepare(panel, window, strategy, signal, universe, rebalances, depth)
    else:
        pairs = [*zip(values("fast"), values("slow"), strict=True)]
        made = prepare_crossings(panel, window, strategy, universe, asset, pairs)
    portfolio = {**portfolio_terms(strategy, values), "schedule": made.schedule}
    return Ready(partial(run_tile, targets=made.targets), portfolio, made.builds, began)


def _by_bar(
    panel: Panel, window: Window, strategy: Strategy, trading: Trading, signal: Any, began: float
) -> Ready:
    """Make one trial ready whose strategy decides after each bar."""
    from backtest_farm.engine.bars import run_bars  # compiles more than other trials need

    if trading.fill == "same_close":
        raise InputError(f"fill is same_close: {NO_SAME_CLOSE}")
    field = None if signal is None else factor_field(panel, signal, window.stop)
    rows = None if field is None else field.values[window.start :]
    past = PastPanel(panel, window.stop)
    run = partial(run_bars, past=past, start=window.start, strategy=strategy, signal=rows)
    return Ready(run, {}, {"factor_builds": int(field is not None and field.fresh)}, began)


def simulated(
    panel: Panel,
    window: Window,
    universe: Universe,
    used: tuple[tuple[str, str], ...],
    trials: Terms,
    ready: Ready,
    **recording: Any,
) -> Ran:
    """Run trials that are ready, by the terms of their trading.

    Parameters
    ----------
    panel, window, universe : Panel, Window, Universe
    used : tuple of (str, str)
        See `used_by`.
    trials : Terms
        Without what portfolios do.
    ready : Ready
    **recording
        See `run_tile`.
    """
    prepared = time.process_time()
    market = market_of(panel, window, universe, used)
    tile = ready.run(market, with_portfolio(trials, **ready.portfolio), **recording)
    seconds = {"signal": prepared - ready.began, "simulation": time.process_time() - prepared}
    return Ran(tile, market, dict(ready.builds), seconds)


def blocks_of(strategy: Strategy, values: Values, n_trials: int) -> list[AnyStrategy]:
    """Return what the portfolio of each trial of a user's class is."""
    return [block_of(each) for each in _each(strategy, values, n_trials)]


def _each(strategy: Strategy, values: Values, n_trials: int) -> list[Strategy]:
    stages = type(strategy).spec_stages.items()
    columns = {name: values(name) for name, stage in stages if stage != "factor"}
    chosen = ({name: column[at] for name, column in columns.items()} for at in range(n_trials))
    return [strategy.model_copy(update=each) for each in chosen]


def _block_values(blocks: Sequence[AnyStrategy], values: Values) -> Values:
    """Return the parameters of trials whose portfolios are these blocks."""
    names = {*type(blocks[0]).model_fields}
    return lambda path: [getattr(each, path) for each in blocks] if path in names else values(path)


def alike(
    panel: Panel, window: Window, universe: Universe, strategy: Any, values: Values, n_trials: int
) -> list[Hashable]:
    """Return a label for each of some trials of an atom: those with equal ones can run in one tile.

    Blocks are made for that; but of crossings the signals differ, and only those of one asset share a tile. A
    user's class may give each trial another block, and one that decides after each bar has a book to itself.
    """
    if not isinstance(strategy, Strategy):
        if strategy.kind == "CrossOver" and timed_asset(panel, window, universe, strategy) is None:
            return [*zip(values("fast"), values("slow"), strict=True)]
        return [0] * n_trials
    if decides_by_bar(type(strategy)):
        return [*range(n_trials)]
    labels: list[Hashable] = []
    for at, one in enumerate(_each(strategy, values, n_trials)):
        try:
            block = block_of(one)
        except InputError:
            labels.append(at)  # a trial that fails when it runs, and alone
        else:
            shared = (leaf.value for leaf in leaves_of(block) if leaf.stage != "portfolio")
            labels.append((type(block), *shared))
    return labels


def single_values(trading: Trading, strategy: Any = None) -> Values:
    """Return the parameters of one trial alone, as `terms_of` asks for them."""
    terms = Trading.model_fields

    def values(path: str) -> Sequence[Any]:
        # A strategy's own parameters go by their bare names.
        owner = trading if path.partition(".")[0] in terms else strategy
        return [value_at(owner, path)]

    return values


def portfolio_terms(strategy: AnyStrategy, values: Values) -> dict[str, Sequence[float]]:
    """Return what the trials' portfolios do with the targets of their strategy."""
    match strategy.kind:
        case "TopN":
            n = values("n")
            weights = zip(values("weight"), n, strict=True)
            return {"n": n, "weight": [1.0 / names if each == "equal" else each for each, names in weights]}
        case "Quantiles":
            return {
                "quantile": values("quantile"),
                "weight": values("long"),
                "short_weight": values("short"),
            }
        case "CrossOver":
            return {"weight": [1.0 / slots for slots in values("slots")]}
    return {"weight": [1.0]}


def terms_of(panel: Panel, stop: int, n_trials: int, values: Values) -> Terms:
    """Return the terms by which trials trade before the bar `stop`, without what their portfolios do."""

    def coded(path: str) -> list[int]:
        return [CODES[path.rpartition(".")[2]][each] for each in values(path)]

    def says(path: str, word: str) -> list[bool]:
        return [each == word for each in values(path)]

    def options(part: str, names: Iterable[str], off: float) -> dict[str, list[Any]]:
        columns = ((name, MODES.get(name, off), values(f"{part}.{name}")) for name in names)
        return {name: [no if each is None else each for each in column] for name, no, column in columns}

    def cost(name: str) -> Any:
        given = values(f"costs.{name}")
        if not any(map(is_static, given)):
            return given
        return [numbers_of(panel, _one(values, f"costs.{name}").removeprefix(STATIC), stop)]

    rules: dict[str, Any] = {}
    if any(values("rules.on")):
        rules = options("rules", (name for name in state.RULES if name != "on_close"), 0.0)
        rules["on_close"] = says("rules.on", "close")
    caps: dict[str, Any] = options("limits", (name for name in state.CAPS if name != "reject"), np.inf)
    caps["reject"] = says("limits.over", "reject")
    group = None
    if np.isfinite(caps["group"]).any():
        tags = panel.static(_one(values, "limits.group_by"))
        known = sorted({str(tag) for tag in tags if tag is not None})
        group = np.array([-1 if tag is None else known.index(str(tag)) for tag in tags])
    interest = values("costs.interest_rate")
    debit = zip(values("costs.debit_rate"), interest, strict=True)
    return terms(
        n_trials,
        fill=coded("fill"),
        sizing=coded("sizing"),
        cash=values("cash"),
        **{name: cost(name) for name in BY_ASSET},
        interest_rate=interest,
        debit_rate=[other if rate is None else rate for rate, other in debit],
        **{name: values(f"limits.{name}") for name in LIMITS},
        lot_down=says("limits.lot_rounding", "down"),
        afford=coded("limits.afford"),
        rules=rules,
        caps=caps,
        group=group,
    )


def numbers_of(panel: Panel, name: str, stop: int) -> np.ndarray:
    """Return a static column as one number >= 0 per asset, shape (n_assets,).

    Raises
    ------
    InputError
        If the panel lacks it, or it has something else for assets with a price before the bar `stop`.
    """
    # What is listed later is not traded, and must not change what was: 0.
    listed = zip(panel.symbols, panel.static(name), panel.visible(PRICE_FIELDS, stop), strict=True)
    column = {symbol: each if visible else 0.0 for symbol, each, visible in listed}
    wrong = [
        f"{symbol} ({each!r})"
        for symbol, each in column.items()
        if isinstance(each, (str, bool)) or each is None or not 0 <= each < np.inf
    ]
    if wrong:
        more = f" and {len(wrong) - 3:,} more" if len(wrong) > 3 else ""
        raise InputError(
            f"the static column {name} has no number >= 0 for {', '.join(wrong[:3])}{more}",
            hint=f"give each asset one: panel.with_static({name!r}, frame), with symbol and {name}",
        )
    return np.array([*column.values()], float)


def _lacking(panel: Panel, setting: str, kind: str, name: str, by: str, stop: int) -> str:
    """Return what a panel lacks of something that trading reads, empty if it has it; see `asked`."""
    if kind == "static":
        try:
            numbers_of(panel, name, stop) if setting.startswith("costs.") else panel.static(name)
        except InputError as error:
            return f"{setting}: {error.message}; {error.hint}"
    elif kind == "field" and name not in panel.fields:
        what = f"panel.with_field({name!r}, bf.factor.{MADE_BY[by]}.on(panel)) makes one" if by else NO_VOLUME
        known = nearest(name, panel.fields)
        return f"{setting} reads the field {name!r}, and the panel has no such field: {known}; {what}"
    elif setting == "events" and not {"split", "dividend"} & {*panel.fields}:
        return (
            "events: the panel has neither a field split nor a field dividend: add one with "
            "panel.with_field, or leave events out"
        )
    return ""


def check_terms(panel: Panel, spec: Trading, units: Iterable[str], stop: int) -> None:
    """Refuse terms of trading that a panel or targets cannot serve, before anything runs.

    Parameters
    ----------
    panel : Panel
    spec : Trading
        Axes and all.
    units : iterable of str
        What the numbers of targets are: ``weight``, ``value`` or ``quantity``.
    stop : int
        The bar that the window ends before.

    Raises
    ------
    InputError
        With all faults at once.
    """
    lacking = (_lacking(panel, *each, stop) for each in asked(spec))
    faults = [*dict.fromkeys(filter(None, lacking))]
    bounds = [name for name in state.CAPS if name != "reject"]
    if other := [unit for unit in units if unit != "weight"]:
        faults += [
            f"limits.{name} bounds weights, but the targets are of the unit {other[0]!r}: leave it out"
            for limits in values_of(spec.limits)
            for name in bounds
            if any(each is not None for each in values_of(getattr(limits, name)))
        ]
    if faults:
        raise InputError("the terms of trading do not fit the panel or the targets", faults=faults)
