"""Kernels that a launcher of Enterprise Gateway starts, here or in another container."""
