"""Pull the image that the only argument names, as launch scripts do.

A program for the launch server, which has the Docker SDK imported: the SDK knows the credentials
for registries that `docker login` left on this machine, and the gateway has no use for them itself.
"""

import sys

import docker

if __name__ == "__main__":
    docker.from_env().images.pull(sys.argv[1])
