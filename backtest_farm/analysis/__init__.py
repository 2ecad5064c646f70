"""What people look at: figures of a backtest or a study, and reports in one HTML file."""

from backtest_farm.analysis.figures import plot_curves, plot_result, plot_study
from backtest_farm.analysis.grid import Grid
from backtest_farm.analysis.result_report import report_result
from backtest_farm.analysis.selection import deflated_sharpe, expected_max_sharpe
from backtest_farm.analysis.study_report import report_study

__all__ = [
    "Grid",
    "deflated_sharpe",
    "expected_max_sharpe",
    "plot_curves",
    "plot_result",
    "plot_study",
    "report_result",
    "report_study",
]
