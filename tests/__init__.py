"""The tests of echosvc."""
