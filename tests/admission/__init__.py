"""Tests of echosvc.admission."""
