"""Kernelspecs and images as sites have them."""
