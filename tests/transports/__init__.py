"""Tests of echosvc.transports."""
