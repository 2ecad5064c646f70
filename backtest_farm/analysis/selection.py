"""What choosing the best of many trials does to its Sharpe ratio.

Source of both formulas: D. H. Bailey and M. López de Prado, "The Deflated Sharpe Ratio: Correcting for
Selection Bias, Backtest Overfitting, and Non-Normality", Journal of Portfolio Management 40(5), 2014.
"""

from __future__ import annotations

import math
from statistics import NormalDist

_EULER_GAMMA = 0.5772156649015329


def expected_max_sharpe(n_trials: int, spread: float) -> float:
    """Return the Sharpe ratio that the luckiest of many trials without skill is expected to show.

    Parameters
    ----------
    n_trials : int
        Independent trials. Trials of one grid resemble each other, so their number is an upper bound.
    spread : float
        Standard deviation of the Sharpe ratios over the trials; the result has the same unit.

    Returns
    -------
    float
        ``spread * ((1 - g) * z(1 - 1/N) + g * z(1 - 1/(N e)))``, z the normal quantile and g the
        Euler-Mascheroni constant. NaN for fewer than 2 trials, or a spread that is not finite.
    """
    if n_trials < 2 or not math.isfinite(spread):
        return math.nan
    z = NormalDist().inv_cdf
    return spread * (
        (1.0 - _EULER_GAMMA) * z(1.0 - 1.0 / n_trials) + _EULER_GAMMA * z(1.0 - 1.0 / (n_trials * math.e))
    )


def deflated_sharpe(
    sharpe: float, benchmark: float, *, n_bars: int, bars_per_year: float, skew: float, kurtosis: float
) -> float:
    """Return the probability that the true Sharpe ratio lies above a benchmark.

    Parameters
    ----------
    sharpe, benchmark : float
        Annual Sharpe ratios; with `expected_max_sharpe` as the benchmark this is the deflated one.
    n_bars : int
        Returns that it was measured over.
    bars_per_year : float
        Returns a year.
    skew, kurtosis : float
        Of the returns; kurtosis in excess of the normal's 3.

    Returns
    -------
    float
        0 to 1; NaN where a term is not finite or there is no variance.
    """
    per_bar = sharpe / math.sqrt(bars_per_year)
    variance = 1.0 - skew * per_bar + (kurtosis + 2.0) / 4.0 * per_bar**2
    gap = (per_bar - benchmark / math.sqrt(bars_per_year)) * math.sqrt(max(n_bars - 1, 0))
    if not math.isfinite(gap) or not variance > 0.0:
        return math.nan
    return NormalDist().cdf(gap / math.sqrt(variance))
