"""Tests of echosvc.testing."""
