"""A Docker Swarm of several nodes on one machine, whose nodes and network can be made to fail."""
