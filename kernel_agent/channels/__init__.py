"""The kernel's channels: the agent as a client of one kernel process."""
