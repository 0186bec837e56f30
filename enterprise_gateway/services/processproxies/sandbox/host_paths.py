"""Which folders of the engine's host kernels may have. Pure."""

from collections.abc import Iterable

ENGINE_SOCKETS = (
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/docker/containerd/containerd.sock",
    "/run/enterprise-gateway/docker.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/user/*/docker.sock",
    "/run/user/*/podman/podman.sock",
)
"""Who has one of these is root on the host, or the user whose engine it is; `*` is any user id."""


class PathError(Exception):
    """Kernels may not have the folder; the message, an end of a sentence, says why."""


def check_host_path(path: str, roots: Iterable[str], sockets: Iterable[str]) -> str:
    """Return the path in its shortest form, judged by its text alone.

    Args:
        path: a folder of the host.
        roots: the folders which kernels may have, with all that is in them.
        sockets: of engines, besides the usual ones.

    Raises:
        PathError: it is not in a root, or contains the socket of an engine.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not path.startswith("/") or ".." in parts or not path.isprintable():
        raise PathError("is not an absolute path without '..'")
    shortest = "/" + "/".join(parts)
    if not any(is_in(shortest, root) for root in roots):
        raise PathError("is in no folder of allowed_volume_roots (EG_ALLOWED_VOLUME_ROOTS)")
    for socket in (*ENGINE_SOCKETS, *sockets):
        if _contains(_run(shortest), _run(socket)):
            raise PathError(f"contains {socket}, the socket of a container engine")
    return shortest


def is_in(path: str, folder: str) -> bool:
    """Return whether a path is a folder or in it; both are in their shortest form."""
    return folder in (path, "/") or path.startswith(f"{folder}/")


def _contains(folder: str, socket: str) -> bool:
    """Return whether a path is that of a socket, in which `*` is any part, or a folder above it."""
    parts, wanted = folder.rstrip("/").split("/"), socket.split("/")
    fit = (of_socket in (part, "*") for part, of_socket in zip(parts, wanted, strict=False))
    return len(parts) <= len(wanted) and all(fit)


def _run(path: str) -> str:
    """Return a path with /var/run, which is a link to it, as /run."""
    if path == "/var":
        return "/"  # it contains the link
    return path.removeprefix("/var") if is_in(path, "/var/run") else path
