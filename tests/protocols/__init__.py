"""Tests of echosvc.protocols."""
