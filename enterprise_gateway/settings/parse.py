"""Parsers of options whose value is not the field's own. Pure."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings.values.schedule import PoolSize, parse_pool_size
from enterprise_gateway.settings.values.sizes import DOCKER_LOG_SIZE

IF_NOT_PRESENT = "IfNotPresent"
ALWAYS = "Always"
NEVER = "Never"
PULL_POLICIES = (IF_NOT_PRESENT, ALWAYS, NEVER)
MAX_ID = 2**32 - 1
"""Largest uid_t and gid_t on Linux."""

CERTIFICATE_NAMES = ("common_name", "dns", "email")
JWT_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""The asymmetric ones of RFC 7518 section 3.1 and RFC 8037 section 3.1."""

_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_OWN_HEADERS = frozenset({"authorization", "cookie", "host", "origin", "x-request-id"})


_ID_RANGE = re.compile(r"([0-9]{1,10})(?:\s*-\s*([0-9]{1,10}))?")
_IMAGE_PATTERN = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9._:/@*?+-]*")


def text_or_empty(text: str | None) -> str:
    """Turn None into the empty text."""
    return text or ""


def name_set(names: Iterable[str]) -> frozenset[str]:
    """Return the names without empty ones, which a trailing comma leaves."""
    return frozenset(filter(None, names))


def lower_name_set(names: Iterable[str]) -> frozenset[str]:
    """Return the names in lower case."""
    return frozenset(name.lower() for name in names)


def sizes_by_name(texts: Iterable[str]) -> tuple[tuple[str, PoolSize], ...]:
    """Parse `NAME=COUNT` and `NAME=pause`, with names in lower case.

    Raises:
        ConfigurationError: a text has another form.
    """
    sizes = []
    for text in filter(None, texts):
        name, _, count = text.partition("=")
        try:
            size = parse_pool_size(count.strip())
        except ValueError:
            size = None
        if not name.strip() or size is None:
            raise ConfigurationError(
                f"pool_sizes {text[:100]!r} is not of the form NAME=COUNT or NAME=pause."
            )
        sizes.append((name.strip().lower(), size))
    return tuple(sizes)


def url_path(text: str) -> str:
    """Give a path exactly one slash at each end: `gateway` and `/gateway/` are the same."""
    inner = "/".join(part for part in text.split("/") if part)
    return f"/{inner}/" if inner else "/"


def port_range(text: str) -> tuple[int, int]:
    """Parse `low..high`; an empty text stands for any port, as `0..0` does.

    Raises:
        ConfigurationError: the text has another form.
    """
    low, separator, high = (text.strip() or "0..0").partition("..")
    if not (separator and low.strip().isdecimal() and high.strip().isdecimal()):
        raise ConfigurationError(f"port_range {text!r} is not of the form '33245..34245'.")
    return int(low), int(high)


def id_ranges(option_name: str, texts: Iterable[str]) -> tuple[range, ...]:
    """Parse ids of users or groups and ranges of them, such as `1000` and `20000-29999`.

    Raises:
        ConfigurationError: a text has another form.
    """
    found = []
    for text in filter(None, (text.strip() for text in texts)):
        match = _ID_RANGE.fullmatch(text)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if low > high:
            raise ConfigurationError(
                f"{option_name} {text[:100]!r} is neither a number nor a range such as 20000-29999."
            )
        found.append(range(low, high + 1))
    return tuple(found)


def networks(texts: Iterable[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Parse addresses and networks.

    Raises:
        ConfigurationError: a text is neither.
    """
    return tuple(_network(text) for text in texts if text)


def patterns(texts: Iterable[str]) -> tuple[str, ...]:
    """Return regular expressions as they are.

    Raises:
        ConfigurationError: one of them is invalid.
    """
    found = tuple(filter(None, texts))
    for pattern in found:
        try:
            re.compile(pattern)
        except re.error as exc:
            raise ConfigurationError(
                f"prohibited_local_ips {pattern!r} is not a regular expression: {exc}."
            ) from exc
    return found


def image_patterns(texts: Iterable[str]) -> tuple[str, ...]:
    """Return patterns of image names as they are.

    Raises:
        ConfigurationError: a text can fit no image name.
    """
    found = tuple(filter(None, texts))
    for text in found:
        if not _IMAGE_PATTERN.fullmatch(text):
            raise ConfigurationError(
                f"allowed_images {text[:200]!r} fits no image: write names such as team/kernel:1, "
                "registry.example.org:5000/team/* or image@sha256:DIGEST."
            )
    return found


def listen_address(text: str) -> str:
    """Return an address, a name or a network.

    Raises:
        ConfigurationError: it has a slash and is no network.
    """
    if "/" in text:
        try:
            ip_network(text, strict=False)
        except ValueError as exc:
            raise ConfigurationError(
                f"ip {text[:100]!r} is neither an address nor a network such as 10.0.1.0/24."
            ) from exc
    return text


def folders(name: str, texts: Iterable[str]) -> tuple[str, ...]:
    """Return absolute paths without a slash at their end.

    Raises:
        ConfigurationError: a path is relative, contains `..`, or is the root.
    """
    found = (folder(name, text.strip()) for text in texts)
    return tuple(filter(None, found))


def folder(name: str, text: str) -> str:
    """Return an absolute path without a slash at its end, or "".

    Raises:
        ConfigurationError: it is relative, contains `..`, or is the root.
    """
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if text and (not text.startswith("/") or ".." in parts or not parts):
        raise ConfigurationError(
            f"{name} {text[:200]!r} must be the absolute path of a folder below /, without '..'."
        )
    return text and "/" + "/".join(parts)


def size(text: str) -> str:
    """Return the size of a log with or without a unit, as Docker takes it.

    Raises:
        ConfigurationError: the text has another form.
    """
    if not re.fullmatch(DOCKER_LOG_SIZE, text):
        raise ConfigurationError(
            f"A size must be a number of bytes, such as 10485760, 10m or 1g, not {text[:100]!r}."
        )
    return text.lower()


def positive_or_default(default: int, number: int) -> int:
    """Return the number if it is positive, else the default."""
    return number if number > 0 else default


def at_least_zero(number: int) -> int:
    """Return the number, or 0 in place of a negative one."""
    return max(0, number)


def number_or_zero(number: int | None) -> int:
    """Turn None into 0."""
    return number or 0


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError as exc:
        raise ConfigurationError(
            f"trusted_proxies {text!r} is neither an IP address nor a network such as 10.0.1.0/24."
        ) from exc


def pull_policy(text: str) -> str:
    """Return the policy in the spelling that all else uses.

    Raises:
        ConfigurationError: there is no such policy.
    """
    found = next((each for each in PULL_POLICIES if each.lower() == text.lower()), None)
    if found is None:
        raise ConfigurationError(
            f"pull_policy must be one of {', '.join(PULL_POLICIES)}, but is {text[:100]!r}."
        )
    return found


def http_url(name: str, text: str) -> str:
    """Return the URL of an HTTP server as it is; "", too.

    Args:
        name: the option's.
        text: its value.

    Raises:
        ConfigurationError: the text is another kind of URL, or none. The message leaves it out,
            since it may hold a password.
    """
    stripped = text.strip()
    try:
        url = urlsplit(stripped)
        is_usable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:  # such as http://[bad
        is_usable = False
    if stripped and not is_usable:
        raise ConfigurationError(f"{name} is not a URL that begins with https:// or http://.")
    return stripped


def base_http_url(name: str, text: str) -> str:
    """Return the URL of an HTTP server without slashes at its end; see `http_url`."""
    return http_url(name, text).rstrip("/")


def jwt_algorithms(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of signature algorithms as they are.

    Raises:
        ConfigurationError: there is none, or one is not asymmetric: with HS256 the provider's
            public key would be the secret, and `none` needs no key.
    """
    found = tuple(filter(None, names))
    unknown = [name for name in found if name not in JWT_ALGORITHMS]
    if unknown or not found:
        raise ConfigurationError(
            f"oidc_algorithms must be some of {', '.join(JWT_ALGORITHMS)}, but "
            f"{f'has {unknown[0][:100]!r}' if unknown else 'is empty'}."
        )
    return found


def certificate_name(text: str) -> str:
    """Return the kind of name in a certificate, "" for none.

    Raises:
        ConfigurationError: there is no such kind.
    """
    if text not in {"", *CERTIFICATE_NAMES}:
        raise ConfigurationError(
            f"certificate_username must be one of {', '.join(CERTIFICATE_NAMES)}, but is "
            f"{text[:100]!r}."
        )
    return text


def header_name(text: str) -> str:
    """Return the name of an HTTP header that the gateway does not use itself; "" as it is.

    Raises:
        ConfigurationError: it is no name of a header, or one that has a meaning of its own.
    """
    if text and (not _HEADER_NAME.fullmatch(text) or text.lower() in _OWN_HEADERS):
        raise ConfigurationError(
            f"proxy_user_header {text[:100]!r} is not the name of a header for user names, such as "
            "X-Forwarded-User."
        )
    return text


def name_pairs(texts: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Parse `NAME=OTHER`; a name may come several times.

    Raises:
        ConfigurationError: a text has another form.
    """
    pairs = set()
    for text in filter(None, texts):
        name, _, other = (part.strip() for part in text.partition("="))
        if not name or not other:
            raise ConfigurationError(f"acts_for {text[:100]!r} is not of the form SERVICE=USER.")
        pairs.add((name, other))
    return frozenset(pairs)
