"""Notebooks run from their first cell to their last."""
