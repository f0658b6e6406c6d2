"""Twisted's own reactor tests, run against our transports."""
