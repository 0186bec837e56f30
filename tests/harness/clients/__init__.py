"""Clients of a gateway: raw ones, a Jupyter server, a browser, and a load of many."""
