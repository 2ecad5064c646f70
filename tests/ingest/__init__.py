"""Tests of reading, checking and making bars."""
