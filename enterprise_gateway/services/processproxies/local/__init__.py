"""Kernels as processes of the gateway's own machine."""
