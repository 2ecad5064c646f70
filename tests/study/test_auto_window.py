"""A window that begins where the signals do is part of what a trial is."""

from __future__ import annotations

import backtest_farm as bf


def sweep(panel: bf.Panel, lookbacks: list[int]) -> bf.Sweep:
    signal = bf.factor.momentum(bf.axis(lookbacks))
    return bf.Sweep(panel=panel, strategy=bf.TopN(signal=signal, n=3), window={"start": "auto"})


def test_a_longer_look_back_moves_the_window_of_all_trials_and_none_is_taken_over(tmp_path) -> None:
    panel = bf.synthetic_panel(tmp_path / "panel", n_bars=150, n_assets=60, seed=3)
    how = {"executor": "inline", "progress": False}
    sweep(panel, [10, 20]).run(tmp_path / "grown", **how)
    grown = sweep(panel, [10, 80]).run(tmp_path / "grown", extend=True, **how)
    fresh = sweep(panel, [10, 80]).run(tmp_path / "fresh", **how)
    assert grown.summary()["reused"] == 0
    assert grown.digest == fresh.digest
    assert grown.trials().collect()["bars"].to_list() == [70, 70]
    assert grown.replay(0).digest == fresh.replay(0).digest
