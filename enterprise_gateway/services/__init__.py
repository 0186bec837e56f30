"""What the gateway does, one folder per REST noun, and the process proxies below them."""
