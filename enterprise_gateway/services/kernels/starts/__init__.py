"""Starts of kernels: limits, queue, launch."""
