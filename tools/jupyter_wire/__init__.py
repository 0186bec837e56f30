"""A client of the kernel WebSocket for tests and benchmarks, sharing no code with the agent."""
