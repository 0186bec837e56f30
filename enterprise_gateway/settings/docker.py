"""Settings of the Docker engine and of containers."""

from dataclasses import dataclass, field

from enterprise_gateway.settings import parse
from enterprise_gateway.settings.option import option


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """The Docker engine, and what containers and services are created with."""

    host: str = option(
        "URL of the Docker engine. By default its usual socket.",
        default="",
        name="docker_host",
        start_only=True,
        env=("DOCKER_HOST",),
    )
    tls_verify: bool = option(
        "Connect to the engine by TLS and verify its certificate; any text but the empty one does"
        " it.",
        default="",
        parse=bool,
        name="docker_tls_verify",
        start_only=True,
        env=("DOCKER_TLS_VERIFY",),
    )
    cert_path: str = option(
        "Folder with ca.pem, cert.pem and key.pem for the engine. By default ~/.docker.",
        default="",
        name="docker_cert_path",
        start_only=True,
        env=("DOCKER_CERT_PATH",),
    )
    network: str = option(
        "Docker network that kernels join.",
        default="bridge",
        name="docker_network",
        env=("EG_DOCKER_NETWORK",),
    )
    encrypt_agent_traffic: bool = option(
        "Speak TLS with the agents of kernels in containers and services, each with a key of its"
        " own. Kernels that run already are not affected. WebSockets then pass through the"
        " gateway, also behind the stack's load balancer.",
        default=False,
        env=("EG_ENCRYPT_AGENT_TRAFFIC",),
    )
    kernel_image: str = option(
        "Image of kernels if neither the kernelspec nor the request names one.",
        default="",
        env=("EG_KERNEL_IMAGE",),
    )
    allowed_images: tuple[str, ...] = option(
        "Images that a request may name in KERNEL_IMAGE, such as 'registry.example.org/team/*'; '*'"
        " alone for any. By default those that the kernelspecs of the user and `kernel_image`"
        " name.",
        default=(),
        takes=list[str],
        parse=parse.image_patterns,
        env=("EG_ALLOWED_IMAGES",),
    )
    sidecar_image: str = option(
        "Image of sidecars: the agents beside kernels into whose containers none can be put. By"
        " default 'localhost/enterprise-gateway/enterprise-gateway' of this version.",
        default="",
        env=("EG_SIDECAR_IMAGE",),
    )
    pull_policy: str = option(
        "When the gateway has the engine pull a kernel's image: 'IfNotPresent', 'Always' (at every"
        " start) or 'Never'. A kernelspec may set its own. Nodes of a swarm pull by themselves.",
        default=parse.IF_NOT_PRESENT,
        parse=parse.pull_policy,
        env=("EG_PULL_POLICY",),
    )
    pull_timeout: float = option(
        "Seconds within which an image must be pulled. A request for a kernel may give up earlier"
        " (KERNEL_LAUNCH_TIMEOUT): the pull goes on, and later requests find it further or done.",
        default=1800.0,
        low=1.0,
        env=("EG_PULL_TIMEOUT",),
    )
    prepull_images: bool = option(
        "Pull the images of all kernelspecs in the background when the gateway starts, as the"
        " pull policy says.",
        default=False,
        start_only=True,
        env=("EG_PREPULL_IMAGES",),
    )
    mirror_working_dirs: bool = option(
        "Start kernels in KERNEL_WORKING_DIR if their container has this folder.",
        default=False,
        env=("EG_MIRROR_WORKING_DIRS",),
    )
    remove_container: bool = option(
        "Remove the containers of kernels that have ended.",
        default=True,
        env=("EG_REMOVE_CONTAINER", "REMOVE_CONTAINER"),
    )
    launch_env: dict[str, str] = field(default_factory=dict, repr=False)
    """`DOCKER_*` and `EG_*` variables of the gateway that launch scripts read."""
