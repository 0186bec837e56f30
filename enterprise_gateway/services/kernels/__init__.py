"""Kernels: the REST resource and everything behind it."""
