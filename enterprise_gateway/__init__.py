"""Jupyter kernels in Docker containers behind the stock Jupyter API."""
