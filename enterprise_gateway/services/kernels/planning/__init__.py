"""From a request for a kernel to a launch: pure."""
