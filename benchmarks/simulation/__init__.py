"""An engine with any number of kernels, and their agents: one process that stands for a cluster."""
