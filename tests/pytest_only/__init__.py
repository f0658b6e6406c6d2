"""Tests that only pytest can run: fixtures of pytest-twisted."""
