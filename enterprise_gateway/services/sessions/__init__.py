"""Jupyter sessions: paths tied to kernels."""
