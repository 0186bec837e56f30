"""Kernels that are ready before a user asks for one."""
