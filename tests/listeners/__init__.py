"""Tests of echosvc.listeners."""
