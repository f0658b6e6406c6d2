"""Tests of echosvc-sockperf."""
