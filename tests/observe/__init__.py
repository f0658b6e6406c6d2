"""Tests of echosvc.observe."""
