"""A program that pulls the image named by its only argument, as launch scripts do.

It runs in the launch server, which has the Docker SDK imported. The SDK uses the credentials that
`docker login` stored on this machine, which the gateway itself does not read.
"""

import sys

import docker

if __name__ == "__main__":
    docker.from_env().images.pull(sys.argv[1])
