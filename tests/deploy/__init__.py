"""Tests of what is shipped to run echosvc with: units, container, Kubernetes, and what the documentation says of them."""
