"""The clients of kernel agents."""
