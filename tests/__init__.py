"""Tests of backtest_farm: one folder per room of the package, and the oracle they are held against."""
