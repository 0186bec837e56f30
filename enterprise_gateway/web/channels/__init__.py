"""The WebSockets between clients and kernel agents."""
