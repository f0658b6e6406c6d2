"""Tests of the benchmark's arithmetic and of what it prints; its servers and its load are tested by running it."""
