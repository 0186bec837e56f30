"""The client of a Docker engine, and the calls about its containers, services and images."""
