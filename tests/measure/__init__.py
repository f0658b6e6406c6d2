"""Tests of the arithmetic of measuring."""
