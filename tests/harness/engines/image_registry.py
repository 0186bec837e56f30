"""A registry of one image that wants a password, as companies have them.

Engines pull from the loopback addresses without TLS: https://docs.docker.com/reference/cli/dockerd/
(insecure registries). What it speaks is the part of https://distribution.github.io/distribution/
(spec/api) that a pull needs.
"""

import base64
import contextlib
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import docker

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_STOP_SECONDS = 120.0
CREDENTIALS = base64.b64encode(b"ann:secret").decode()


class ImageRegistry:
    """The name of the image, and the credentials as `docker login` stores them.

    Attributes:
        address: its host and port.
        image: the image that it offers.
        docker_config: `config.json` with the credentials for it.
        goes_on: cleared, layers stop in their middle until it is set.
        layers_asked: how often a layer was asked for.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.image = f"{address}/team/kernel:1"
        self.docker_config = json.dumps({"auths": {address: {"auth": CREDENTIALS}}})
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.layers_asked = 0


@contextmanager
def image_registry(
    client: docker.DockerClient, source: str, ip: str = "127.0.0.1"
) -> Iterator[ImageRegistry]:
    """Have a registry that offers an image of an engine under a name that the engine knows not.

    Args:
        client: of the engine.
        source: the image.
        ip: where the registry listens.
    """
    blobs, manifest = _export(client, source)
    layers = {layer["digest"] for layer in json.loads(manifest)["layers"]}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.headers.get("Authorization") != f"Basic {CREDENTIALS}":
                self._answer(401, b"{}", "application/json")
            elif "/manifests/" in self.path:
                self._answer(200, manifest, _MANIFEST)
            elif "/blobs/" in self.path:
                digest = self.path.rpartition("/")[2]
                registry.layers_asked += digest in layers
                self._answer(200, blobs[digest], "application/octet-stream")
            else:
                self._answer(200, b"{}", "application/json")

        do_HEAD = do_GET  # noqa: N815 - http.server looks it up by method

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("WWW-Authenticate", 'Basic realm="team"')
            self.send_header("Docker-Content-Digest", _digest(body))
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            half = len(body) // 2
            # the engine may have given the pull up
            with contextlib.suppress(OSError):
                self.wfile.write(body[:half])
                if _digest(body) in layers:
                    registry.goes_on.wait(_STOP_SECONDS)
                self.wfile.write(body[half:])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((ip, 0), Handler) as server:
        registry = ImageRegistry(f"{ip}:{server.server_address[1]}")
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield registry
        finally:
            registry.goes_on.set()
            server.shutdown()
            serving.join()


def _export(client: docker.DockerClient, source: str) -> tuple[dict[str, bytes], bytes]:
    """Return configuration and layers of an image by digest, and the manifest that lists them."""
    saved = io.BytesIO(b"".join(client.images.get(source).save()))
    blobs: dict[str, bytes] = {}
    with tarfile.open(fileobj=saved) as tar:

        def read(name: str) -> bytes:
            member = tar.extractfile(name)
            assert member is not None
            return member.read()

        def describe(name: str, kind: str) -> dict[str, Any]:
            content = read(name)
            blobs[_digest(content)] = content
            return {"mediaType": kind, "size": len(content), "digest": _digest(content)}

        (listed,) = json.loads(read("manifest.json"))
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": describe(listed["Config"], _CONFIG),
            "layers": [describe(layer, _LAYER) for layer in listed["Layers"]],
        }
    return blobs, json.dumps(manifest).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
