"""Linux: processes, control groups and prctl(2)."""
