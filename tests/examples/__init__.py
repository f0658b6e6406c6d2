"""Tests of what is written for people who extend echosvc."""
