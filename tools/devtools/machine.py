"""Settings of this machine for a build in a container: proxies, package sources, authorities.

They are the files of etc/docker/machine/ in the build, and not in the finished image.
"""

import configparser
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from devtools.host import distribution, which

CERTIFICATES = "/machine/ca-certificates.crt"
"""Where the build finds the certificate authorities."""

SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
CERTIFICATE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy")
PIP_OPTIONS = (
    "index-url",
    "extra-index-url",
    "trusted-host",
    "proxy",
    "timeout",
    "default-timeout",
    "retries",
)
APT_OPTIONS = re.compile(r"^Acquire::(http|https|Check-Valid-Until|Check-Date|Retries|ForceIPv)")


def build_files(suite: str) -> dict[str, bytes]:
    """Return the files of `etc/docker/machine/` for an image of a Debian suite, by name."""
    certificates = certificate_file(os.environ)
    pip = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    apt_config = which("apt-config")
    apt = (
        subprocess.run([apt_config, "dump"], capture_output=True, text=True, check=False).stdout
        if apt_config
        else ""
    )
    return {
        "ca-certificates.crt": certificates.read_bytes() if certificates else b"",
        "sources.list": sources_list(
            debian_sources(), distribution().get("VERSION_CODENAME", ""), suite
        ).encode(),
        "pip.conf": pip_conf(pip.stdout.splitlines()).encode(),
        "apt.conf": apt_conf(apt.splitlines(), has_certificates=certificates is not None).encode(),
    }


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies as build arguments, which Docker keeps out of an image's history."""
    both = [*PROXY_VARIABLES, *(name.upper() for name in PROXY_VARIABLES)]
    return {name: environ[name] for name in both if environ.get(name)}


def certificate_file(environ: Mapping[str, str]) -> Path | None:
    """Return the file of the authorities that this machine trusts."""
    named = [Path(environ[name]) for name in CERTIFICATE_VARIABLES if environ.get(name)]
    return next((file for file in [*named, SYSTEM_CERTIFICATES] if file.is_file()), None)


def pip_conf(listed: Iterable[str]) -> str:
    """Return the configuration file for what `pip config list` said, variables before files.

    Left out is what means nothing in a container: folders of this machine and files in them.
    """
    values: dict[str, str] = {}
    for line in sorted(listed, key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        option = key.rpartition(".")[2]
        words = value.strip("'\"").replace("\\n", " ").split()
        words = [word for word in words if not word.startswith(("file:", "/"))]
        if option in PIP_OPTIONS and words:
            values[option] = "\n".join(words)
    parser = configparser.RawConfigParser()
    parser["global"] = values
    text = io.StringIO()
    parser.write(text)
    return text.getvalue() if values else ""


def apt_conf(dumped: Iterable[str], *, has_certificates: bool) -> str:
    """Return the configuration file for what `apt-config dump` said: how to fetch, nothing else."""
    kept = [line for line in dumped if APT_OPTIONS.match(line) and "::CaInfo" not in line]
    if has_certificates:
        kept.append(f'Acquire::https::CaInfo "{CERTIFICATES}";')
    return "".join(f"{line}\n" for line in kept)


def debian_sources() -> str:
    """Return the sources of this machine's apt; empty on other distributions than Debian."""
    if distribution().get("ID") != "debian":
        return ""
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    return "\n\n".join(file.read_text(errors="replace") for file in files if file.is_file())


def sources_list(sources: str, own_suite: str, suite: str) -> str:
    """Return a sources.list for `suite`, from where a machine gets its own suite."""
    return "".join(
        f"deb {mirror} {suite}{part} main\n"
        for part in ("", "-updates", "-security")
        for mirror in mirrors(sources, own_suite + part)[:1]
    )


def mirrors(sources: str, suite: str) -> list[str]:
    """Return where a suite's main component comes from, as sources.list(5) says."""
    found = []
    one_line = re.compile(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)$")
    for line in sources.splitlines():
        match = one_line.match(line.strip())
        if match and match[2] == suite and "main" in match[3].split():
            found.append(match[1])
    for stanza in re.split(r"\n\s*\n", sources):
        fields = dict(re.findall(r"^(URIs|Suites|Components):\s*(.+)$", stanza, re.MULTILINE))
        if (
            suite in fields.get("Suites", "").split()
            and "main" in fields.get("Components", "").split()
        ):
            found += fields.get("URIs", "").split()
    return found
