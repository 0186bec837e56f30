"""Launch a kernel in a Docker container, or as a service of a Docker swarm.

Enterprise Gateway runs this script for each kernel whose kernelspec names `DockerProcessProxy` or
`DockerSwarmProcessProxy`. It is meant to be edited: what kernels get beyond the defaults (volumes,
limits, devices, constraints) is decided in `container_settings` and `service_settings`. Any keyword
of the Docker SDK's `containers.run` or `services.create` may be added there:
https://docker-py.readthedocs.io/en/stable/containers.html
https://docker-py.readthedocs.io/en/stable/services.html

The script ends once the engine has been asked for the kernel. What it prints to stderr before it
ends with an exit code other than 0 is what the user is told.
"""

import argparse
import os
import re
import sys
from typing import Any

import docker
import docker.errors
import docker.types
import requests.exceptions

# A registry with or without port, a path, a tag, a digest:
# https://pkg.go.dev/github.com/distribution/reference
IMAGE_NAME = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@[A-Za-z0-9_+.-]+:[0-9a-fA-F]{32,})?"
)

# What nodes of a Swarm offer GPUs as: `node-generic-resources` in the daemon.json of their engine.
GPU_RESOURCE = "NVIDIA-GPU"

# The gateway's own way to the engine, and its PATH, are nothing to the kernel.
NOT_FOR_KERNELS = {
    "PATH",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_API_VERSION",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "EG_AGENT_CONFIG",
    "EG_AGENT_VOLUME",
    "EG_CLUSTER_ID",
    "EG_CONTAINER_NAME",
}

# The kernel agent that the gateway lends to images which have none, and what starts it.
AGENT_FOLDER = "/opt/enterprise-gateway"
AGENT_COMMAND = ["/bin/sh", f"{AGENT_FOLDER}/agent"]


def container_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords for `containers.run`: the place to add a site's own."""
    name = kernel_name(arguments)
    settings: dict[str, Any] = {
        "name": name,
        "hostname": name,
        "environment": kernel_environment(arguments),
        "labels": kernel_labels(arguments),
        "network": setting("DOCKER_NETWORK", "bridge"),
        # False leaves ended containers there to be looked into.
        "remove": setting("REMOVE_CONTAINER", "True").lower() == "true",
        "user": os.environ.get("KERNEL_UID"),
        "group_add": kernel_groups(),
        "security_opt": ["no-new-privileges"],
    }
    if gpus():
        settings["device_requests"] = [
            docker.types.DeviceRequest(count=gpus(), capabilities=[["gpu"]])
        ]
    if os.environ.get("KERNEL_WORKING_DIR"):
        settings["working_dir"] = os.environ["KERNEL_WORKING_DIR"]

    # Examples; all paths are paths of the engine's host.
    # settings["volumes"] = {
    #     "/home": {"bind": "/home", "mode": "rw"},
    #     "/srv/datasets": {"bind": "/data", "mode": "ro"},
    # }
    # settings["mem_limit"] = "2g"
    # settings["nano_cpus"] = 1_500_000_000
    return settings


def service_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords for `services.create`: the place to add a site's own.

    Swarm takes `{{` in environment, host name and mounts for the beginning of a template. Give it
    what a user may have chosen (KERNEL_*) as `literal(...)` only.
    """
    name = kernel_name(arguments)
    labels = kernel_labels(arguments)
    environment = kernel_environment(arguments)
    settings: dict[str, Any] = {
        "name": name,
        "hostname": literal(name),
        "env": [literal(f"{variable}={value}") for variable, value in environment.items()],
        "labels": labels,
        "container_labels": labels,
        "networks": [setting("DOCKER_NETWORK", "bridge")],
        # The gateway connects to the kernel itself, not to a virtual address in front of it.
        "endpoint_spec": docker.types.EndpointSpec(mode="dnsrr"),
        # A kernel that ended must not come back empty under the same id.
        "restart_policy": docker.types.RestartPolicy(condition="none"),
        "user": os.environ.get("KERNEL_UID"),
        "groups": kernel_groups(),
    }
    if gpus():
        settings["resources"] = docker.types.Resources(generic_resources={GPU_RESOURCE: gpus()})
    if os.environ.get("KERNEL_WORKING_DIR"):
        settings["workdir"] = os.environ["KERNEL_WORKING_DIR"]

    # Examples; all paths are paths of the node that the kernel lands on, whichever that is.
    # settings["mounts"] = ["/home:/home:rw", "/srv/datasets:/data:ro"]
    # settings["constraints"] = ["node.labels.kernels == yes"]
    # settings["resources"] = docker.types.Resources(
    #     cpu_limit=1_500_000_000, mem_limit=2 * 1024**3, mem_reservation=1024**3
    # )  # for GPUs besides: generic_resources={GPU_RESOURCE: gpus()}
    return settings


def lend_agent(settings: dict[str, Any]) -> None:
    """Add what starts the gateway's agent in an image that has none, if the gateway lends it.

    A site that has settings for what is started knows better.
    """
    if "entrypoint" in settings or "command" in settings:
        return
    volume = os.environ.get("EG_AGENT_VOLUME")
    config_id, _, config = os.environ.get("EG_AGENT_CONFIG", "").partition(":")
    if volume:
        mount = docker.types.Mount(AGENT_FOLDER, volume, read_only=True, no_copy=True)
        settings.setdefault("mounts", []).append(mount)
        settings["entrypoint"] = AGENT_COMMAND
    if config:
        file = docker.types.ConfigReference(config_id, config, AGENT_COMMAND[-1], mode=0o444)
        settings.setdefault("configs", []).append(file)
        settings["command"] = AGENT_COMMAND  # what a service calls its entry point
    if volume or config:
        # The image's own health check is about what it would start; Swarm ends what fails it.
        settings.setdefault("healthcheck", docker.types.Healthcheck(test=["NONE"]))


def launch_docker_kernel(arguments: argparse.Namespace) -> None:
    """Ask the engine for the kernel, or end with a sentence that says why not."""
    mode = setting("DOCKER_MODE", "swarm").lower()
    if mode not in ("docker", "swarm"):
        sys.exit(f"EG_DOCKER_MODE is '{mode}', but this script knows 'docker' and 'swarm' only.")
    image = os.environ.get("KERNEL_IMAGE", "")
    if not image:
        sys.exit("KERNEL_IMAGE is not set: no image to start the kernel from.")
    if not IMAGE_NAME.fullmatch(image):
        sys.exit(f"KERNEL_IMAGE is no image name: {image}")
    try:
        client = docker.from_env()
        if mode == "swarm":
            expect_gpus(client)
            settings = service_settings(arguments)
            lend_agent(settings)
            client.services.create(image, **settings)
        else:
            expect_own_image(client, image)
            settings = container_settings(arguments)
            lend_agent(settings)
            client.containers.run(image, detach=True, **settings)
    except docker.errors.APIError as exc:
        if mode == "swarm":
            sys.exit(f"The swarm refused to make a service from {image}: {words_of(exc)}")
        sys.exit(why_refused(client, image, words_of(exc)))
    except (docker.errors.DockerException, requests.exceptions.RequestException) as exc:
        sys.exit(f"The Docker engine cannot be reached: {exc}")


def kernel_name(arguments: argparse.Namespace) -> str:
    """Return the name of container or service, which is also the kernel's host name."""
    # The gateway escapes user names that are no host names.
    return os.environ.get("EG_CONTAINER_NAME") or (
        f"{os.environ.get('KERNEL_USERNAME', '')}-{arguments.kernel_id}"
    )


def kernel_environment(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the environment that the kernel gets."""
    # A value of the environment (kernel.json, KERNEL_*, EG_CLIENT_ENVS) wins over the argument.
    environment = {
        "PORT_RANGE": arguments.port_range,
        "PUBLIC_KEY": arguments.public_key,
        "RESPONSE_ADDRESS": arguments.response_address,
        "KERNEL_SPARK_CONTEXT_INIT_MODE": arguments.spark_context_init_mode,
    }
    if arguments.kernel_class_name:
        environment["KERNEL_CLASS_NAME"] = arguments.kernel_class_name
    environment.update(os.environ)
    for name in NOT_FOR_KERNELS:
        environment.pop(name, None)
    return environment


def kernel_labels(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the labels by which the gateway finds its kernels."""
    labels = {
        "app": "enterprise-gateway",
        "component": "kernel",
        "kernel_id": arguments.kernel_id,
    }
    # Tells the kernels of gateways that have nothing to do with one another apart.
    if os.environ.get("EG_CLUSTER_ID"):
        labels["enterprise-gateway.cluster"] = os.environ["EG_CLUSTER_ID"]
    return labels


def kernel_groups() -> list[str]:
    """Return the groups that the kernel's user is in."""
    return [group for group in (os.environ.get("KERNEL_GID"), "100") if group]


def gpus() -> int:
    """Return how many GPUs the kernel asks for."""
    stated = os.environ.get("KERNEL_GPUS") or "0"
    if not re.fullmatch("[0-9]{1,3}", stated):
        sys.exit(f"KERNEL_GPUS is no number of GPUs: {stated}")
    return int(stated)


def expect_gpus(client: docker.DockerClient) -> None:
    """End with a sentence if no node has as many GPUs as the kernel asks for.

    Swarm itself would wait for such a node, in silence.
    """
    if not gpus():
        return
    nodes = [node.attrs for node in client.nodes.list()]
    most = max((gpus_of(node) for node in nodes if is_in_use(node)), default=0)
    if most < gpus():
        sys.exit(
            f"The kernel asks for GPUs (KERNEL_GPUS={gpus()}), but no node of the Swarm offers "
            f"more than {most} of the generic resource {GPU_RESOURCE}. Say in the daemon.json of "
            "nodes with GPUs what they offer (node-generic-resources); KERNEL_GPUS=0 does without."
        )


def is_in_use(node: dict[str, Any]) -> bool:
    """Whether Swarm gives work to a node."""
    return bool(node["Status"]["State"] == "ready" and node["Spec"]["Availability"] == "active")


def gpus_of(node: dict[str, Any]) -> int:
    """Return how many GPUs a node offers: each by its name, or all as a number."""
    found = 0
    for resource in node["Description"].get("Resources", {}).get("GenericResources") or ():
        named = resource.get("NamedResourceSpec", {})
        counted = resource.get("DiscreteResourceSpec", {})
        found += named.get("Kind") == GPU_RESOURCE
        found += counted.get("Value", 0) if counted.get("Kind") == GPU_RESOURCE else 0
    return found


def literal(text: str) -> str:
    """Return a text so that Swarm, which expands Go templates, makes the same text of it."""
    return text.replace("{{", '{{"{{"}}')


def why_refused(client: docker.DockerClient, image: str, words: str) -> str:
    """Return why the engine would not start a container, which it said in these words."""
    if is_missing(client, image):
        return (
            f"The image {image} is not on this engine and cannot be pulled: {words} "
            "Build or load it, or correct its name (image_name in kernel.json, KERNEL_IMAGE)."
        )
    if gpus() and re.search("gpu|nvidia", words, re.IGNORECASE):
        return (
            f"The kernel asks for GPUs (KERNEL_GPUS={gpus()}), but the Docker engine has none "
            f"to give: {words}. Its host needs GPUs, their driver and the NVIDIA "
            "Container Toolkit; KERNEL_GPUS=0 does without."
        )
    if os.environ.get("EG_AGENT_VOLUME") and AGENT_COMMAND[0] in words:
        return (
            f"The image {image} has no {AGENT_COMMAND[0]}, which starts the kernel agent: "
            f"{words} Build an image with a shell, python3 and pyzmq."
        )
    return f"The Docker engine refused to start a container from {image}: {words}"


def is_missing(client: docker.DockerClient, image: str) -> bool:
    """Whether the engine has no such image, for certain."""
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        return True
    except (docker.errors.DockerException, requests.exceptions.RequestException):
        return False
    return False


def expect_own_image(client: docker.DockerClient, image: str) -> None:
    """End with a sentence if an image of the project's own is missing.

    It would be pulled otherwise, and in a public registry its name may be anybody's.
    """
    own = re.fullmatch(r"enterprise-gateway/(kernel-[a-z-]+):[^:@]+", image)
    if own and is_missing(client, image):
        sys.exit(
            f"The image {image} is not on this engine, and is not pulled. Build it (in a checkout: "
            f"scripts/images {own[1]}) or load it, or name the one in your own registry "
            "(image_name in kernel.json, KERNEL_IMAGE)."
        )


def words_of(error: docker.errors.APIError) -> str:
    """Return what the engine, or the registry behind it, said."""
    words = error.explanation
    return (words.decode(errors="replace") if isinstance(words, bytes) else str(words)).strip()


def setting(name: str, default: str) -> str:
    """Return a setting, whose name may be prefixed by EG_."""
    return os.environ.get(name, os.environ.get(f"EG_{name}", default))


def parse_arguments() -> argparse.Namespace:
    """Take the arguments in either spelling: older kernelspecs say `--RemoteProcessProxy.NAME`."""
    known = {
        # name: (where it goes, default, help)
        "kernel-id": ("kernel_id", "", "the kernel's id"),
        "port-range": ("port_range", "0..0", "LOW..HIGH: where the kernel's ports are taken from"),
        "response-address": ("response_address", "", "IP:PORT that the kernel reports to"),
        "public-key": ("public_key", "", "public key of whoever listens there"),
        "spark-context-initialization-mode": (
            "spark_context_init_mode",
            "none",
            "whether to create a Spark context",
        ),
        "kernel-class-name": ("kernel_class_name", "", "ipykernel class to use"),
    }
    parser = argparse.ArgumentParser(
        description="Launch a kernel in a container or as a Swarm service."
    )
    for name, (destination, default, text) in known.items():
        parser.add_argument(
            f"--{name}",
            f"--RemoteProcessProxy.{name}",
            dest=destination,
            nargs="?",
            const=default,
            default=default,
            help=text,
        )
    arguments = parser.parse_args()
    if not arguments.kernel_id:
        parser.error("--kernel-id is required")
    return arguments


if __name__ == "__main__":
    launch_docker_kernel(parse_arguments())
