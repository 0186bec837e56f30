"""A site's own launch script, as it was written for Jupyter Enterprise Gateway.

It knows nothing of this project: both spellings of the arguments, EG's names of the variables, its
own labels, a volume added by hand, and no thought of agents, clusters or escaped names.
"""

import argparse
import os
from typing import Any

import docker
from docker.types import EndpointSpec, RestartPolicy


def launch_docker_kernel(
    kernel_id: str,
    port_range: str,
    response_addr: str,
    public_key: str,
    spark_context_init_mode: str,
) -> None:
    """Make the container or service."""
    image_name = os.environ["KERNEL_IMAGE"]
    docker_network = os.environ.get("DOCKER_NETWORK", os.environ.get("EG_DOCKER_NETWORK", "bridge"))
    container_name = os.environ.get("KERNEL_USERNAME", "") + "-" + kernel_id
    labels = {
        "kernel_id": kernel_id,
        "component": "kernel",
        "app": "enterprise-gateway",
        "site": "acme",
    }
    param_env = {
        "PORT_RANGE": port_range,
        "PUBLIC_KEY": public_key,
        "RESPONSE_ADDRESS": response_addr,
        "KERNEL_SPARK_CONTEXT_INIT_MODE": spark_context_init_mode,
    }
    param_env.update(os.environ)
    param_env.pop("PATH")
    user = param_env.get("KERNEL_UID")
    group = param_env.get("KERNEL_GID")
    kwargs: dict[str, Any] = {}
    client = docker.from_env()
    if os.environ.get("EG_DOCKER_MODE", "swarm").lower() == "swarm":
        kwargs["name"] = container_name
        kwargs["hostname"] = container_name
        kwargs["networks"] = [docker_network]
        kwargs["env"] = [f"{key}={value}" for key, value in param_env.items()]
        kwargs["labels"] = labels
        kwargs["container_labels"] = labels
        kwargs["endpoint_spec"] = EndpointSpec(mode="dnsrr")
        kwargs["restart_policy"] = RestartPolicy(condition="none")
        kwargs["user"] = user
        kwargs["groups"] = [group, "100"]
        kwargs["constraints"] = ["node.role == manager"]
        client.services.create(image_name, **kwargs)
    else:
        kwargs["name"] = container_name
        kwargs["hostname"] = container_name
        kwargs["user"] = user
        kwargs["group_add"] = [group, "100"]
        kwargs["labels"] = labels
        kwargs["environment"] = param_env
        kwargs["remove"] = os.environ.get("EG_REMOVE_CONTAINER", "True").lower() == "true"
        kwargs["network"] = docker_network
        kwargs["detach"] = True
        kwargs["volumes"] = {os.environ["SITE_DATA"]: {"bind": "/data", "mode": "ro"}}
        client.containers.run(image_name, **kwargs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name, default in (
        ("kernel-id", None),
        ("port-range", "0..0"),
        ("response-address", None),
        ("public-key", None),
        ("spark-context-initialization-mode", "none"),
    ):
        old, new = f"--RemoteProcessProxy.{name}", f"--{name}"
        parser.add_argument(old, new, dest=name, nargs="?", default=default)
    arguments = vars(parser.parse_args())
    launch_docker_kernel(
        arguments["kernel-id"],
        arguments["port-range"],
        arguments["response-address"],
        arguments["public-key"],
        arguments["spark-context-initialization-mode"],
    )
