"""Runs one Jupyter kernel and serves its channels over one port."""
