"""How a ranking moves with what is assumed about fills."""

from __future__ import annotations

import pytest

import backtest_farm as bf
from backtest_farm.errors import InputError


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> bf.Study:
    folder = tmp_path_factory.mktemp("semantics")
    panel = bf.synthetic_panel(folder / "panel", n_bars=160, n_assets=20, seed=3)
    sweep = bf.Sweep(
        panel=panel,
        strategy=bf.TopN(signal=bf.factor.momentum(lookback=bf.axis([5, 10, 21]), skip=0), n=bf.axis([2, 5])),
        fill=bf.axis(["next_open", "same_close"]),
    )
    return sweep.run(folder / "study", executor="inline", progress=False)


def test_shift_compares_equal_trials_only(study) -> None:
    (moved,) = study.ranking_shift("fill", by="sharpe", top=3).to_dicts()
    rows = study.trials().collect().to_dicts()
    by_fill = {
        fill: {(row["signal.lookback"], row["n"]): row for row in rows if row["fill"] == fill}
        for fill in ("next_open", "same_close")
    }
    points = sorted(by_fill["next_open"])
    ranks = {}
    for fill, part in by_fill.items():
        order = sorted(points, key=lambda point: -part[point]["sharpe"])
        ranks[fill] = [order.index(point) for point in points]
    n = len(points)
    distance = sum((a - b) ** 2 for a, b in zip(*ranks.values(), strict=True))
    assert moved["rank_correlation"] == pytest.approx(1 - 6 * distance / (n * (n * n - 1)))
    leaders = [{p for p, rank in zip(points, each, strict=True) if rank < 3} for each in ranks.values()]
    leaves = sorted(by_fill["next_open"][point]["trial"] for point in leaders[0] - leaders[1])
    assert sorted(moved["leave"]) == leaves
    assert (moved["from"], moved["to"], moved["trials"], moved["top"]) == ("next_open", "same_close", n, 3)
    assert moved["stay"] == 3 - len(leaves)


def test_report_says_what_fills_assume(study, tmp_path) -> None:
    text = study.report(tmp_path / "report.html").read_text()
    assert "What fills assume" in text and "next_open" in text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"over": "fil"}, "'fil' is not varied in this sweep: did you mean 'fill'"),
        ({"by": "sharp"}, "'sharp' is no metric"),
        ({"top": 0}, "n is 0"),
    ],
)
def test_wrong_questions_are_answered(study, asked, said) -> None:
    with pytest.raises(InputError, match=r"is no metric|is not varied|n is 0") as caught:
        study.ranking_shift(**asked)
    assert said in caught.value.message
