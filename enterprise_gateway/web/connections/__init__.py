"""Client connections: sockets, TLS, HTTP/1.1 and their limits."""
