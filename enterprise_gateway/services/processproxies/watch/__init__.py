"""Following an engine: every change of a workload, and the removal of what has ended."""
