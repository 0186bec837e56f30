"""The transport protocol of ZeroMQ, as far as a client of a Jupyter kernel needs it."""
