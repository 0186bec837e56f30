"""Pausing idle kernels: which, and when they must go on by themselves."""
