"""What backtests and sweeps cost, against a bare loop, against other engines, and against the last time."""
