"""Launch a kernel in a Docker container, or as a service of a Docker swarm.

Enterprise Gateway runs this script for each kernel whose kernelspec names `DockerProcessProxy` or
`DockerSwarmProcessProxy`. It is meant to be edited: what kernels get beyond the defaults (limits,
devices, constraints) is decided in `container_settings` and `service_settings`. What is stated
there counts more than what the gateway says of security and logs (EG_SANDBOX). Any keyword of the
Docker SDK's `containers.run` or `services.create` may be added there:
https://docker-py.readthedocs.io/en/stable/containers.html
https://docker-py.readthedocs.io/en/stable/services.html

The script ends once the engine has been asked for the kernel. What it prints to stderr before it
ends with an exit code other than 0 is shown to the user.
"""

import argparse
import json
import os
import re
import sys
import warnings
from typing import Any, NoReturn

import docker
import docker.credentials
import docker.errors
import docker.types
import docker.utils.config
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
# Where clouds tell a machine, and all that runs on it, its credentials.
METADATA_SERVICE = "169.254.169.254"
NETWORKS_WITHOUT_ADDRESSES = ("host", "none")
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a place to mount at
# The engine answers in JSON, a proxy in front of it in HTML.
PROXY_ANSWERED = "The Docker engine is unreachable: a proxy in front of it answered."

# What the gateway uses to reach the engine, and its PATH, are not passed to the kernel.
NOT_FOR_KERNELS = {
    "PATH",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_API_VERSION",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "EG_AGENT_CONFIG",
    "EG_AGENT_LAUNCH",
    "EG_AGENT_VOLUME",
    "EG_CLUSTER_ID",
    "EG_CONTAINER_NAME",
    "EG_KERNEL_ENV",
    "EG_POOL",
    "EG_RESOURCES",
    "EG_SANDBOX",
}

# Labels that the gateway reads, "" where a kernel has none. Docker gives a container the labels of
# its image besides, which anyone may have built: those that are not set here would be the image's.
NO_LABELS = dict.fromkeys(
    (
        "enterprise-gateway.cluster",
        "enterprise-gateway.cpus",
        "enterprise-gateway.gpus",
        "enterprise-gateway.groups",
        "enterprise-gateway.launch",
        "enterprise-gateway.memory",
        "enterprise-gateway.pool",
        "enterprise-gateway.remove",
        "enterprise-gateway.sidecar",
    ),
    "",
)
# Swarm's own on containers of services, which the gateway takes for no containers of its own.
SERVICE_LABEL = "com.docker.swarm.service.id"

# The kernel agent that the gateway injects into images without one, and what starts it.
AGENT_FOLDER = "/opt/enterprise-gateway"
AGENT_COMMAND = ["/bin/sh", f"{AGENT_FOLDER}/agent"]


def container_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords for `containers.run`: the place to add a site's own."""
    name = kernel_name(arguments)
    settings: dict[str, Any] = {
        "name": name,
        "hostname": name,
        "environment": kernel_environment(arguments),
        "labels": {SERVICE_LABEL: "", **kernel_labels(arguments)},
        "network": setting("DOCKER_NETWORK", "bridge"),
        "user": kernel_user(),
        "group_add": kernel_groups(),
    }

    # Examples; all paths are paths of the engine's host. `volumes` in kernel.json needs no edits.
    # What the kernel may take (`limit_container`) and its sandbox (`confine_container`) are added
    # to what stands here, which wins.
    # settings["volumes"] = {
    #     "/usr/local/share/jupyter/kernels": {
    #         "bind": "/usr/local/share/jupyter/kernels", "mode": "ro"
    #     },
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
        "user": kernel_user(),
        "groups": kernel_groups(),
    }

    # Examples; all paths are paths of the node that the kernel lands on, whichever that is.
    # `volumes` in kernel.json needs no edits. What the kernel may take (`limit_service`) and its
    # sandbox (`confine_service`) are added to what stands here, which wins.
    # settings["mounts"] = [
    #     "/usr/local/share/jupyter/kernels:/usr/local/share/jupyter/kernels:ro",
    #     "/home:/home:rw",
    #     "/srv/datasets:/data:ro",
    # ]
    # settings["constraints"] = ["node.labels.kernels == yes"]
    # settings["resources"] = docker.types.Resources(
    #     cpu_limit=1_500_000_000, mem_limit=2 * 1024**3, mem_reservation=1024**3
    # )
    return settings


def inject_agent(settings: dict[str, Any]) -> None:
    """Add what starts the gateway's agent in an image that has none, if the gateway injects it.

    Settings of the site for the command or entry point take precedence.
    """
    if "entrypoint" in settings or "command" in settings:
        return
    volume = os.environ.get("EG_AGENT_VOLUME")
    config_id, _, config = os.environ.get("EG_AGENT_CONFIG", "").partition(":")
    # `entrypoint: image` in the kernelspec's config keeps the image's own, which starts the agent.
    stays = os.environ.get("EG_AGENT_ENTRYPOINT") == "image"
    if volume:
        mount = docker.types.Mount(AGENT_FOLDER, volume, read_only=True, no_copy=True)
        settings.setdefault("mounts", []).append(mount)
        settings["command" if stays else "entrypoint"] = AGENT_COMMAND
    if config:
        file = docker.types.ConfigReference(config_id, config, AGENT_COMMAND[-1], mode=0o444)
        settings.setdefault("configs", []).append(file)
        # A service calls its command `args`, and its entry point `command`.
        settings["args" if stays else "command"] = AGENT_COMMAND
    if volume or config:
        # The image's health check is for its own program; Swarm would end a kernel that fails it.
        settings.setdefault("healthcheck", docker.types.Healthcheck(test=["NONE"]))


def resources() -> dict[str, Any]:
    """Return what the kernel may take, as the gateway has planned it.

    Sizes are bytes, CPUs billionths of one. What is missing is not limited.
    """
    found: dict[str, Any] = json.loads(os.environ.get("EG_RESOURCES") or "{}")
    return found


def limit_container(settings: dict[str, Any]) -> None:
    """Add what the kernel may take; settings of the site take precedence."""
    allowed = resources()
    keywords = {
        # keyword of `containers.run`: (its value, settings of the site that stand against it)
        "nano_cpus": (allowed.get("nano_cpus"), {"cpu_period", "cpu_quota"}),
        "mem_limit": (allowed.get("memory"), {"memswap_limit"}),
        "mem_reservation": (allowed.get("reserved_memory"), {"mem_limit"}),
        "pids_limit": (allowed.get("pids"), set()),
        "shm_size": (allowed.get("shm_size"), {"ipc_mode"}),
        "ulimits": (allowed.get("ulimits"), set()),
    }
    own = set(settings)
    for keyword, (value, others) in keywords.items():
        if value and not own & {keyword, *others}:
            settings[keyword] = value
    if "mem_limit" in settings and "mem_limit" not in own:
        settings["memswap_limit"] = settings["mem_limit"]  # no swap besides
    if gpus():
        request = docker.types.DeviceRequest(count=gpus(), capabilities=[["gpu"]])
        settings.setdefault("device_requests", [request])


def limit_service(settings: dict[str, Any]) -> None:
    """Add what the kernel may take, and where it may be; settings of the site take precedence."""
    allowed = resources()
    limits = {
        "NanoCPUs": allowed.get("nano_cpus"),
        "MemoryBytes": allowed.get("memory"),
        "Pids": allowed.get("pids"),  # API 1.41; the SDK's `Resources` does not know it
    }
    gpu = {"DiscreteResourceSpec": {"Kind": GPU_RESOURCE, "Value": gpus()}}
    reservations = {
        "NanoCPUs": allowed.get("reserved_nano_cpus"),
        "MemoryBytes": allowed.get("reserved_memory"),
        "GenericResources": [gpu] if gpus() else None,
    }
    own = settings.get("resources", {})
    merged = {}
    for part, planned in (("Limits", limits), ("Reservations", reservations)):
        values = {name: value for name, value in planned.items() if value} | own.get(part, {})
        if values:
            merged[part] = values
    if merged:
        settings["resources"] = merged
    if allowed.get("constraints"):
        settings["constraints"] = [*settings.get("constraints", []), *allowed["constraints"]]
    if allowed.get("preferences"):
        spread = [("spread", label) for label in allowed["preferences"]]
        settings.setdefault("preferences", spread)
    size_shared_memory(settings, allowed.get("shm_size"))


def size_shared_memory(settings: dict[str, Any], size: int | None) -> None:
    """Give a service a /dev/shm of a size, for which Swarm has no setting, but mounts."""
    if size and not any(target_of(mount) == SHARED_MEMORY for mount in settings.get("mounts", [])):
        mount = docker.types.Mount(SHARED_MEMORY, None, type="tmpfs", tmpfs_size=size)
        settings["mounts"] = [*settings.get("mounts", []), mount]


def target_of(mount: dict[str, Any] | str) -> str:
    """Return where in the container something is mounted, of either form of a mount."""
    if isinstance(mount, str):
        return [*mount.split(":"), ""][1]
    return str(mount["Target"])


def add_ulimits(client: docker.DockerClient) -> None:
    """Have the client create services with the kernel's ulimits (API 1.41).

    The SDK has no keyword for them.
    """
    ulimits = resources().get("ulimits")
    create = client.api.create_service

    def create_with_ulimits(task_template: dict[str, Any], **others: Any) -> Any:  # noqa: ANN401 - as the SDK's
        task_template["ContainerSpec"].setdefault("Ulimits", ulimits)
        return create(task_template=task_template, **others)

    if ulimits:
        client.api.create_service = create_with_ulimits


def sandbox() -> dict[str, Any]:
    """Return what the gateway says of security, volumes and network of the container.

    It comes from kernelspec, request and settings, and is checked. The mounts are those of the
    Docker Engine API.
    """
    plan: dict[str, Any] = json.loads(os.environ.get("EG_SANDBOX", "{}"))
    return plan


def confine_container(settings: dict[str, Any]) -> None:
    """Add the sandbox to the settings of a container; those of the site take precedence.

    Docker's init, which the engine may have as its default, is switched off: it would be process 1
    in the agent's place, and show the agent's token to the kernel in /proc/1/environ.
    """
    plan = sandbox()
    security = plan.get("security", {})
    options = []
    if security.get("no_new_privileges", True):
        options.append("no-new-privileges")
    if security.get("seccomp") == "unconfined":
        options.append("seccomp=unconfined")
    settings.setdefault("security_opt", options)
    if security.get("drop_capabilities", True):
        settings.setdefault("cap_drop", ["ALL"])
        settings.setdefault("cap_add", list(security.get("capabilities", ())))
    settings.setdefault("init", False)
    driver, log_options = log_settings(security)
    if driver:
        log = docker.types.LogConfig(type=driver, config=log_options)
        settings.setdefault("log_config", log)
    for name, value in (
        ("read_only", security.get("read_only")),
        ("runtime", security.get("runtime")),
        ("dns", plan.get("dns")),
    ):
        if value:
            settings.setdefault(name, value)
    if plan.get("mounts"):
        settings.setdefault("mounts", []).extend(plan["mounts"])
    if security.get("block_metadata", True):
        block_metadata(settings)


def block_metadata(settings: dict[str, Any]) -> None:
    """Have a container take the metadata service's address, which it asks in vain then.

    All of 169.254.0.0/16 is a network without a router for it. Containers do not disturb each
    other, as none asks the network for an address of its own.
    """
    network = settings.get("network", "")
    if network and network not in NETWORKS_WITHOUT_ADDRESSES and ":" not in network:
        endpoint = {"IPAMConfig": {"LinkLocalIPs": [METADATA_SERVICE]}}
        settings.setdefault("networking_config", {network: endpoint})


def confine_service(settings: dict[str, Any]) -> None:
    """Add the sandbox to the settings of a service; those of the site take precedence."""
    plan = sandbox()
    security = plan.get("security", {})
    if security.get("no_new_privileges", True):
        # Docker 25 and newer (API 1.44); older engines ignore it.
        settings.setdefault("privileges", {"NoNewPrivileges": True})
    if security.get("drop_capabilities", True):
        settings.setdefault("cap_drop", ["ALL"])
        settings.setdefault("cap_add", list(security.get("capabilities", ())))
    driver, log_options = log_settings(security)
    if driver and "log_driver" not in settings:
        settings["log_driver"], settings["log_driver_options"] = driver, log_options
    settings.setdefault("init", False)
    if security.get("read_only"):
        settings.setdefault("read_only", True)
    if plan.get("dns"):
        settings.setdefault("dns_config", docker.types.DNSConfig(nameservers=plan["dns"]))
    if plan.get("mounts"):
        settings.setdefault("mounts", []).extend(map(literal_mount, plan["mounts"]))


def give_secrets(client: docker.DockerClient, settings: dict[str, Any]) -> None:
    """Give a service the secrets of its kernelspec, in files that only its user can read."""
    uid, gid = os.environ.get("KERNEL_UID"), os.environ.get("KERNEL_GID")
    for secret in sandbox().get("secrets", ()):
        name = secret["source"]
        try:
            found = client.api.inspect_secret(name)
        except docker.errors.NotFound:
            sys.exit(f"The kernelspec names the secret {name}, which the Swarm does not have.")
        spec = found["Spec"]
        if spec["Name"] != name:  # the engine takes ids as well
            sys.exit(f"The kernelspec names the secret {name}, which the Swarm does not have.")
        if (spec.get("Labels") or {}).get("app") == "enterprise-gateway":
            sys.exit(f"The kernelspec names the secret {name}, which is the gateway's own.")
        file = docker.types.SecretReference(
            found["ID"], name, secret["target"], uid=uid, gid=gid, mode=0o400
        )
        settings.setdefault("secrets", []).append(file)


def log_settings(security: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Return log driver and options, ("", {}) for the engine's own."""
    driver = security.get("log_driver", "json-file")
    if driver not in ("json-file", "local"):
        return driver, {}
    size, files = security.get("log_max_size", "10m"), security.get("log_max_files", 3)
    return driver, {"max-size": size, "max-file": str(files)}


def literal_mount(mount: dict[str, Any]) -> dict[str, Any]:
    """Escape the texts of a mount in which Swarm expands templates, which are all of them."""
    return {
        name: literal(value)
        if isinstance(value, str)
        else literal_mount(value)
        if isinstance(value, dict)
        else value
        for name, value in mount.items()
    }


def launch_docker_kernel(arguments: argparse.Namespace) -> None:
    """Ask the engine for the kernel, or exit with a message that says why not."""
    mode = setting("DOCKER_MODE", "swarm").lower()
    if mode not in ("docker", "swarm"):
        sys.exit(f"EG_DOCKER_MODE is '{mode}', but this script knows 'docker' and 'swarm' only.")
    image = os.environ.get("KERNEL_IMAGE", "")
    if not image:
        sys.exit("KERNEL_IMAGE is not set: no image to start the kernel from.")
    if not IMAGE_NAME.fullmatch(image):
        sys.exit(f"KERNEL_IMAGE is not an image name: {image}")
    # The error that follows is clearer than this warning.
    warnings.filterwarnings("ignore", ".* not installed or not available in PATH")
    client = connect()
    try:
        if mode == "swarm":
            expect_gpus(client)
            settings = service_settings(arguments)
            confine_service(settings)
            give_secrets(client, settings)
            limit_service(settings)
            add_ulimits(client)
            inject_agent(settings)
            client.services.create(image, **settings)
        else:
            expect_own_image(client, image)
            settings = container_settings(arguments)
            confine_container(settings)
            limit_container(settings)
            inject_agent(settings)
            client.containers.run(image, detach=True, **settings)
    except docker.errors.APIError as exc:
        if error_text(exc).startswith("<"):
            exit_temporarily(PROXY_ANSWERED)
        if mode == "swarm":
            sys.exit(f"The swarm refused to make a service from {image}: {error_text(exc)}")
        sys.exit(explain_refusal(client, image, error_text(exc)))
    except requests.exceptions.RequestException as exc:
        exit_temporarily(explain_unreachable(exc))
    except docker.errors.DockerException as exc:
        sys.exit(explain_sdk_error(image, exc))


def connect() -> docker.DockerClient:
    """Return a client of the engine, or exit if it does not answer."""
    try:
        return docker.from_env()
    except docker.errors.DockerException as exc:
        exit_temporarily(explain_unreachable(exc))


def explain_unreachable(exc: Exception) -> str:
    """Return why the engine did not answer; an answer in HTML is a proxy's."""
    if "<html" in str(exc).lower():
        return PROXY_ANSWERED
    return f"The Docker engine cannot be reached: {exc}"


def exit_temporarily(message: str) -> NoReturn:
    """Exit with the code that makes the gateway ask its client to try again later."""
    sys.stderr.write(f"{message}\n")
    sys.exit(os.EX_TEMPFAIL)


def kernel_name(arguments: argparse.Namespace) -> str:
    """Return the name of container or service, which is also the kernel's host name."""
    # The gateway escapes user names that are not host names.
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
    # Variables for the kernel that this script must not see: proxies, certificates, HOME.
    environment.update(json.loads(environment.get("EG_KERNEL_ENV", "{}")))
    for name in NOT_FOR_KERNELS:
        environment.pop(name, None)
    launch_id, token = launch_id_and_token()
    if launch_id:
        environment["EG_AGENT_TOKEN"] = token
    return environment


def kernel_labels(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the labels by which the gateway finds its kernels."""
    labels = {
        **NO_LABELS,
        "app": "enterprise-gateway",
        "component": "kernel",
        "kernel_id": arguments.kernel_id,
    }
    # Distinguishes kernels of clusters that share an engine.
    if os.environ.get("EG_CLUSTER_ID"):
        labels["enterprise-gateway.cluster"] = os.environ["EG_CLUSTER_ID"]
    launch_id, _ = launch_id_and_token()
    if launch_id:
        labels["enterprise-gateway.launch"] = launch_id
    # It waits for a user, in the pool of its kernelspec.
    if os.environ.get("EG_POOL"):
        labels["enterprise-gateway.pool"] = os.environ["EG_POOL"]
    # What it counts for in quotas of its user.
    labels.update(resources().get("labels", {}))
    # Gateways remove ended workloads with this label; one without it stays, to be inspected.
    if setting("REMOVE_CONTAINER", "True").lower() == "true":
        labels["enterprise-gateway.remove"] = "true"
    return labels


def launch_id_and_token() -> tuple[str, str]:
    """Return the id of this launch of the kernel, and its agent's token for it.

    A container with the label needs this token; one without it keeps EG_AGENT_TOKEN.
    """
    launch_id, _, token = os.environ.get("EG_AGENT_LAUNCH", "").partition(":")
    return launch_id, token


def kernel_user() -> str | None:
    """Return user and primary group; with the former alone an id unknown to the image is in 0."""
    uid, gid = os.environ.get("KERNEL_UID"), os.environ.get("KERNEL_GID")
    is_primary = sandbox().get("security", {}).get("primary_group", True)
    return f"{uid}:{gid}" if uid and gid and is_primary else uid


def kernel_groups() -> list[str]:
    """Return the groups that the kernel's user is in."""
    return [group for group in (os.environ.get("KERNEL_GID"), "100") if group]


def gpus() -> int:
    """Return how many GPUs the kernel gets."""
    return int(resources().get("gpus", 0))


def expect_gpus(client: docker.DockerClient) -> None:
    """Exit with a message if no node has as many GPUs as the kernel asks for.

    Swarm itself would wait for such a node without an error.
    """
    if not gpus():
        return
    nodes = [node.attrs for node in client.nodes.list()]
    most = max((gpus_of(node) for node in nodes if is_in_use(node)), default=0)
    if most < gpus():
        sys.exit(
            f"The kernel asks for GPUs (KERNEL_GPUS={gpus()}), but no node of the Swarm offers "
            f"more than {most} of the generic resource {GPU_RESOURCE}. Say in the daemon.json of "
            "nodes with GPUs what they offer (node-generic-resources); KERNEL_GPUS=0 asks for none."
        )


def is_in_use(node: dict[str, Any]) -> bool:
    """Return whether Swarm schedules tasks on a node."""
    return bool(node["Status"]["State"] == "ready" and node["Spec"]["Availability"] == "active")


def gpus_of(node: dict[str, Any]) -> int:
    """Return how many GPUs a node offers, as named resources or as a count."""
    found = 0
    for resource in node["Description"].get("Resources", {}).get("GenericResources") or ():
        named = resource.get("NamedResourceSpec", {})
        counted = resource.get("DiscreteResourceSpec", {})
        found += named.get("Kind") == GPU_RESOURCE
        found += counted.get("Value", 0) if counted.get("Kind") == GPU_RESOURCE else 0
    return found


def literal(text: str) -> str:
    """Escape a text for Swarm, which expands Go templates."""
    return text.replace("{{", '{{"{{"}}')


def explain_sdk_error(image: str, exc: docker.errors.DockerException) -> str:
    """Return why the SDK did not call the engine; a retry would not help."""
    if isinstance(exc.__cause__, docker.credentials.StoreError):
        return explain_no_credentials(image, exc.__cause__)
    return f"The Docker SDK rejected the settings for {image}: {exc}"


def explain_refusal(client: docker.DockerClient, image: str, error: str) -> str:
    """Return why the engine refused to start a container, from its error."""
    if is_missing(client, image):
        return (
            f"The image {image} is not on this engine and cannot be pulled: {error} "
            "Build or load it, or correct its name (image_name in kernel.json, KERNEL_IMAGE)."
        )
    if gpus() and re.search("gpu|nvidia", error, re.IGNORECASE):
        return (
            f"The kernel asks for GPUs (KERNEL_GPUS={gpus()}), but the Docker engine has none "
            f"to give: {error}. Its host needs GPUs, their driver and the NVIDIA "
            "Container Toolkit; KERNEL_GPUS=0 asks for none."
        )
    if os.environ.get("EG_AGENT_VOLUME") and AGENT_COMMAND[0] in error:
        return (
            f"The image {image} has no {AGENT_COMMAND[0]}, which starts the kernel agent: "
            f"{error} Build an image with a shell and python3."
        )
    return f"The Docker engine refused to start a container from {image}: {error}"


def explain_no_credentials(image: str, cause: Exception) -> str:
    """Return that the credential helper for an image's registry failed."""
    file = docker.utils.config.find_config_file() or "the Docker configuration"
    return (
        f"The image {image} cannot be pulled, since the credential helper that "
        f"{file} names (credsStore, credHelpers) fails: {cause}. Install that helper on the "
        "gateway's PATH, or remove its name from the file."
    )


def is_missing(client: docker.DockerClient, image: str) -> bool:
    """Return whether the engine certainly has no such image."""
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        return True
    except (docker.errors.DockerException, requests.exceptions.RequestException):
        return False
    return False


def expect_own_image(client: docker.DockerClient, image: str) -> None:
    """Exit with a message if an image that is in no registry is missing.

    A name that begins with `localhost/` is local to this engine: the image is built or loaded.
    """
    if not image.startswith("localhost/") or not is_missing(client, image):
        return
    own = re.fullmatch(r"localhost/enterprise-gateway/(kernel-[a-z-]+):[^:@]+", image)
    build = f"Build it (in a checkout: scripts/images {own[1]})" if own else "Build it"
    sys.exit(
        f"The image {image} is not on this engine, and is not pulled. {build} or load it, or name "
        "the one in your own registry (image_name in kernel.json, KERNEL_IMAGE)."
    )


def error_text(error: docker.errors.APIError) -> str:
    """Return the error message of the engine, or of the registry behind it."""
    text = error.explanation
    return (text.decode(errors="replace") if isinstance(text, bytes) else str(text)).strip()


def setting(name: str, default: str) -> str:
    """Return a setting, whose name may be prefixed by EG_."""
    return os.environ.get(name, os.environ.get(f"EG_{name}", default))


def parse_arguments() -> argparse.Namespace:
    """Parse the arguments in either spelling: older kernelspecs say `--RemoteProcessProxy.NAME`."""
    known = {
        # name: (where it goes, default, help)
        "kernel-id": ("kernel_id", "", "the kernel's id"),
        "port-range": ("port_range", "0..0", "LOW..HIGH: where the kernel's ports are taken from"),
        "response-address": ("response_address", "", "IP:PORT that the kernel reports to"),
        "public-key": ("public_key", "", "public key of the server at that address"),
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
