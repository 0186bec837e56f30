"""Why a pull failed, from the words of the engine and the registry. Pure."""

import re

_TRANSIENT = re.compile(
    r"""
    connection\ (refused | reset | timed\ out)
    | broken\ pipe | \bEOF\b | i/o\ timeout | TLS\ handshake\ timeout | context\ deadline\ exceeded
    | Client\.Timeout | network\ is\ unreachable | no\ route\ to\ host | server\ misbehaving
    | temporary\ failure\ in\ name\ resolution
    | (unexpected\ HTTP\ status | status\ code):?\ 50[0234]
    """,
    re.IGNORECASE | re.VERBOSE,
)
_REFUSED = re.compile(
    r"unauthorized|denied|authentication required|no basic auth|\b40[13]\b", re.IGNORECASE
)


def is_transient(words: str) -> bool:
    """Return whether the same pull may succeed in a moment.

    A limit of the registry ("toomanyrequests") holds for hours.
    """
    return _TRANSIENT.search(words) is not None


def is_refusal(words: str) -> bool:
    """Return whether the registry may want credentials, or other ones."""
    return _REFUSED.search(words) is not None
