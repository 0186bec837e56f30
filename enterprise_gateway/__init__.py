"""Jupyter kernels in Docker containers and Swarm services behind the stock Jupyter API."""
