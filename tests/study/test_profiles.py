"""A study over profiles: rows, replays and single backtests carry the same name."""

import numpy as np
import pytest

import backtest_farm as bf
from tests.study.conftest import sweep_over


@pytest.fixture(scope="module")
def study(small_panel, tmp_path_factory) -> bf.Study:
    sweep = sweep_over(
        small_panel,
        strategy=bf.TopN(signal=bf.factor.momentum(10), n=bf.axis([2, 5]), rebalance=5),
        costs=bf.Costs(commission_bps=10),
        profile=bf.axis(["default", "zipline", "vectorbt"]),
        sizing="decision",
        cash=100_000,
    )
    return sweep.run(tmp_path_factory.mktemp("profiles") / "study", executor="inline", progress=False)


NAMES = ["default", "zipline", "vectorbt+sizing=decision"]


def test_rows_carry_the_profiles_names(study) -> None:
    rows = study.trials().sort("trial").collect()
    assert rows["profile"].to_list() == NAMES * 2
    assert rows["digest"].n_unique() == 6
    assert not {"fill", "sizing", "limits.lot"} & {*rows.columns}


def test_a_replay_and_a_single_backtest_are_the_same(study, small_panel) -> None:
    strategy = bf.TopN(signal=bf.factor.momentum(10), n=5, rebalance=5)
    for trial, name in enumerate(NAMES, start=3):
        replay = study.replay(trial)
        assert replay.profile == name
        assert replay.look_ahead == name.startswith("vectorbt")
        given = {"sizing": "decision"} if "+" in name else {}
        alone = bf.run(small_panel, strategy, cash=100_000, profile=name.partition("+")[0], **given)
        assert (alone.profile, alone.digest) == (name, replay.digest)


def test_whole_shares_and_closes_are_what_zipline_means(study) -> None:
    fills = study.replay(4).fills
    quantities = fills["quantity"].to_numpy()
    assert len(quantities) > 20
    np.testing.assert_array_equal(quantities, np.round(quantities))


def test_the_profile_of_one_sweep_stands_in_every_row(small_panel, tmp_path) -> None:
    sweep = sweep_over(
        small_panel,
        strategy=bf.TopN(signal=bf.factor.momentum(10), n=2),
        costs=bf.Costs(),
        profile="zipline",
        fill=bf.axis(["next_open", "next_close"]),
    )
    study = sweep.run(tmp_path / "study", executor="inline", progress=False)
    rows = study.trials().sort("trial").collect()
    assert rows["profile"].to_list() == ["zipline+fill=next_open", "zipline"]
    assert [study.replay(trial).profile for trial in range(2)] == rows["profile"].to_list()
