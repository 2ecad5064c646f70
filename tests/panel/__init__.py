"""Tests of panels on disk."""
