"""The port to which kernels report, and the reports."""
