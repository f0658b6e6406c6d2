"""Tests of echosvc.settings."""
