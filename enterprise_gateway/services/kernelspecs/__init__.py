"""Kernelspecs: the launch recipes installed on this machine."""
