"""Tests of the farm: the same rows whoever computes them, whatever stops the work half-way."""
