"""Comparison with other backtesting engines, run from their real packages: optional, see docs/peers.md."""
