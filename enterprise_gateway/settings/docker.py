"""Settings of the Docker engine and of containers."""

from dataclasses import dataclass, field

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
    kernel_image: str = option(
        "Image of kernels if neither the kernelspec nor the request names one.",
        default="",
        env=("EG_KERNEL_IMAGE",),
    )
    sidecar_image: str = option(
        "Image of sidecars: the agents beside kernels into whose containers none can be put. By"
        " default 'localhost/enterprise-gateway/enterprise-gateway' of this version.",
        default="",
        env=("EG_SIDECAR_IMAGE",),
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
