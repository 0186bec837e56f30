"""The agent's HTTP interface, and its report to the gateway."""
