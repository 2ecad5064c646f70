"""Sweeps for the tests of plans: hand-made ones, and strategies that draw them."""

from hypothesis import strategies as st

from backtest_farm.factors.spec import momentum, reversal, sma_ratio
from backtest_farm.identity import digest
from backtest_farm.spec import Costs, Universe, axis
from backtest_farm.strategy import ContextFilter, Quantiles, TopN
from backtest_farm.sweep import Plan, PlannedUniverse, SweepSpec, inputs_key, inputs_of
from backtest_farm.sweep.keys import key_document

EPOCH = 1


def planned(lookback=63, skip=0, n=10, weight="equal", rebalance=1, costs=None, universes=("all",), **rest):
    """A plan of one TopN strategy by momentum."""
    strategy = TopN(signal=momentum(lookback, skip), n=n, weight=weight, rebalance=rebalance)
    rest = {"universes": list(universes), "costs": costs or Costs(), **rest}
    return plan_of(parts_of(strategy, **rest), universes)


def parts_of(strategy, **rest):
    return SweepSpec.from_python(panel="/panels/us", strategy=strategy, **rest)


def plan_of(spec, universes=("all",), **changes):
    """A plan on universes that have equal members if their names differ in a trailing number only."""
    concrete = tuple(
        PlannedUniverse(Universe(of=name), f"members of {name.rstrip('0123456789')}") for name in universes
    )
    digests = {key: f"data of {key}" for key in inputs_of(spec)}
    given = {"data_digests": digests, "code_digest": "code", "result_epoch": EPOCH, **changes}
    return Plan(spec, concrete, **given)


def key_of(plan, number):
    """The key of a trial, from the whole document that it is a hash of."""
    trial = plan.trial(number)
    members = {planned.universe: planned.digest for planned in plan.universes}[plan.universe(number)]
    data = plan.data_digests[inputs_key(trial)]
    around = {"universe": members, "data": data, "code": plan.code_digest, "result_epoch": plan.result_epoch}
    return digest(key_document(trial, around))


def lists(values, max_size):
    return st.lists(values, min_size=1, max_size=max_size, unique=True).map(axis)


def one_or_many(values, max_size):
    return st.one_of(values, lists(values, max_size))


# Alternatives without points in common: their tags differ, or a value that stands nowhere else.
signals = st.lists(
    st.sampled_from(["momentum", "skipping", "reversal", "ratio"]), min_size=1, max_size=3, unique=True
).flatmap(
    lambda kinds: st.tuples(
        *(
            {
                "momentum": st.builds(momentum, lookback=one_or_many(st.integers(50, 99), 4)),
                "skipping": st.builds(
                    momentum, lookback=one_or_many(st.integers(50, 99), 3), skip=lists(st.integers(1, 40), 2)
                ),
                "reversal": st.builds(reversal, lookback=lists(st.integers(1, 99), 3)),
                "ratio": st.builds(
                    sma_ratio,
                    fast=one_or_many(st.integers(1, 9), 2),
                    slow=one_or_many(st.integers(10, 30), 2),
                    field=one_or_many(st.sampled_from(["close", "open", "score"]), 2),
                ),
            }[kind]
            for kind in kinds
        )
    )
)
signal = signals.map(lambda found: found[0] if len(found) == 1 else axis(found))
filters = st.sampled_from(
    [
        None,
        ContextFilter(context="vix", above=axis([20, 30])),
        axis([None, ContextFilter(context=axis(["vix", "rate"]), above=axis([20, 30]))]),
    ]
)
costs = st.one_of(
    st.builds(Costs, commission_bps=one_or_many(st.floats(0, 50), 3)),
    st.builds(Costs, per_share=lists(st.sampled_from([0.005, 0.01]), 2)).map(
        lambda one: axis([Costs(commission_bps=axis([1, 2])), one])
    ),
)


def specs_of(most):
    """Sweeps with up to `most` numbers of names."""
    tops = st.builds(
        TopN,
        signal=signal,
        n=one_or_many(st.integers(1, 900), most),
        weight=st.sampled_from(["equal", 0.5, axis(["equal", 0.1, 2])]),
        rebalance=st.sampled_from([5, axis([1, "month_end"])]),
        filter=filters,
    )
    quantiles = st.builds(
        Quantiles, signal=signal, quantile=one_or_many(st.sampled_from([0.1, 0.2, 0.5]), 2), filter=filters
    )
    return st.builds(
        parts_of,
        strategy=st.one_of(tops, quantiles, st.tuples(tops, quantiles).map(axis)),
        costs=costs,
        sizing=st.sampled_from(["decision", axis(["decision", "fill"])]),
    )


plans = st.builds(
    plan_of, specs_of(30), st.sampled_from([("all",), ("us", "eu"), ("us1", "eu", "us2", "us3")])
)
