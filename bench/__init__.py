"""The same work for echosvc and for its rivals, in one run: ``python -m bench``; how to read it: README.md."""
