"""What the benchmarks talk to servers and kernels with."""
