"""Measures the gateway beside its floor and its peers: `python -m benchmarks`."""
