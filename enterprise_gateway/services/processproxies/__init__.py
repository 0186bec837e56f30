"""Process proxies: launch, find and remove the workloads that kernels live in."""
