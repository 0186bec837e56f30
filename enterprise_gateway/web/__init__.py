"""HTTP: the server, who may use it, and how errors look."""
