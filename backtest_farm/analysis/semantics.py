"""How much a ranking of trials depends on what is assumed about fills."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

from backtest_farm.errors import InputError, nearest
from backtest_farm.study.study import SMALLER_IS_BETTER

if TYPE_CHECKING:
    import polars as pl

    from backtest_farm.study import Study


def ranking_shift(study: Study, over: str, by: str, top: int) -> pl.DataFrame:
    """Return how the ranking of otherwise equal trials moves from one value of an axis to another.

    See `backtest_farm.Study.ranking_shift`, which is the way to it.
    """
    import polars as pl

    columns = study.plan.columns
    # A mapping that is there or not, such as rules, is varied by all that stands in it.
    varied = [name for name in columns if name == over or name.startswith(f"{over}.")]
    if not varied:
        raise InputError(
            f"{over!r} is not varied in this sweep: {nearest(over, columns)}",
            hint="make a sweep over it, such as fill: [next_open, next_close]",
        )
    others = [name for name in columns if name not in varied]
    if not others:
        raise InputError(
            f"only {over} is varied in this sweep: there is one trial for each value, and nothing to rank",
            hint="vary what you would choose by the ranking too",
        )
    study.best(top, by)  # refuses an unknown metric, and a number that is none
    rows = (
        study.trials().filter(status="ok").drop_nans(by).drop_nulls(by).select("trial", *varied, *others, by)
    )
    parts = rows.collect().partition_by(*varied, as_dict=True, include_key=False, maintain_order=True)
    found: list[dict[str, Any]] = []
    for one, other in combinations(parts, 2):
        both = parts[one].join(parts[other], on=others, how="inner", nulls_equal=True, suffix="_other")
        leaders = [
            both.sort([metric, "trial"], descending=[by not in SMALLER_IS_BETTER, False]).head(top)["trial"]
            for metric in (by, f"{by}_other")
        ]
        leaves = leaders[0].filter(~leaders[0].is_in(leaders[1].implode()))
        found.append(
            {
                "from": _label(varied, one),
                "to": _label(varied, other),
                "trials": both.height,
                "rank_correlation": both.select(pl.corr(by, f"{by}_other", method="spearman")).item(),
                "top": len(leaders[0]),
                "stay": len(leaders[0]) - len(leaves),
                "leave": leaves.to_list(),
            }
        )
    schema: dict[str, Any] = {
        "from": pl.String, "to": pl.String, "trials": pl.Int64, "rank_correlation": pl.Float64,
        "top": pl.Int64, "stay": pl.Int64, "leave": pl.List(pl.Int64),
    }  # fmt: skip
    return pl.DataFrame(found, schema)


def _label(varied: list[str], values: tuple[Any, ...]) -> str:
    """Return what a table calls one of the values that are compared."""
    if len(varied) == 1:
        return str(values[0])
    told = zip((name.rpartition(".")[2] for name in varied), values, strict=True)
    return ", ".join(f"{name} {value}" for name, value in told if value is not None) or "none"
