"""Tests of echosvc-shout."""
