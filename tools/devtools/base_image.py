"""The Debian image below kernel images: pulled, or made here where nothing can be pulled."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from docker import DockerClient
from docker.errors import DockerException, ImageNotFound
from requests.exceptions import RequestException

from devtools.console import SetupError, run, say, step
from devtools.engine import connect
from devtools.host import apt_install, cache_dir, can_install, distribution, which
from devtools.machine import debian_sources, mirrors

SUITE = "bookworm"
REPOSITORY, TAG = "debian", f"{SUITE}-slim"
BASE_IMAGE = f"{REPOSITORY}:{TAG}"
PULL_TIMEOUT = 20
"""Seconds without a word from the registry after which it counts as out of reach."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def ensure_base_image(client: DockerClient, host: str) -> None:
    """Pull the base image, or make it, unless the engine has it.

    Raises:
        SetupError: it can be neither pulled nor made.
    """
    try:
        client.images.get(BASE_IMAGE)
    except ImageNotFound:
        if not pull(host):
            make(client)


def pull(host: str) -> bool:
    """Whether the image could be pulled."""
    client = connect(host, PULL_TIMEOUT)
    try:
        with step(f"Pulling {BASE_IMAGE}"):
            client.images.pull(REPOSITORY, TAG)
    except (DockerException, RequestException) as exc:
        say(f"  the registry does not have it: {str(exc)[:200]}")
        return False
    finally:
        client.close()
    return True


def make(client: DockerClient) -> None:
    """Make the image from Debian's packages."""
    if not can_install():
        raise SetupError(f"{BASE_IMAGE} can be made only by root on Debian or Ubuntu")
    if not which("debootstrap") or not KEYRING.exists():
        apt_install(["debootstrap", "debian-archive-keyring"])
    cache_dir().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="debootstrap-", dir=cache_dir()))
    # without a mirror of this machine's, debootstrap knows one
    mirror = mirrors(debian_sources(), distribution().get("VERSION_CODENAME", ""))[:1]
    try:
        with step(f"Making {BASE_IMAGE} with debootstrap"):
            run(
                [
                    *("debootstrap", "--variant=minbase", "--include=ca-certificates"),
                    *(SUITE, str(folder), *mirror),
                ]
            )
            load(client, folder)
    finally:
        shutil.rmtree(folder)


def load(client: DockerClient, folder: Path) -> None:
    """Import a file system as the base image, without what apt can fetch again."""
    excluded = ["--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*"]
    with subprocess.Popen(
        ["tar", "-C", str(folder), *excluded, "-c", "."], stdout=subprocess.PIPE
    ) as tar:
        client.api.import_image_from_stream(tar.stdout, repository=REPOSITORY, tag=TAG)
    if tar.returncode:
        raise SetupError(f"tar of {folder} failed ({tar.returncode})")
