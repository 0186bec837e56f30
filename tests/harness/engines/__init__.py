"""Docker engines: fakes, proxies and registries, the Swarm, and the containers on them."""
