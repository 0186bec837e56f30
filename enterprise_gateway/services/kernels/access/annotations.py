"""The annotations of a kernel, a JSON object that its agent keeps: pure.

An agent can write anything there.
"""

from typing import TypeVar

import msgspec

from enterprise_gateway.errors import UNREADABLE_JSON

_Document = TypeVar("_Document")


def read_annotations(document: msgspec.Raw, kind: type[_Document]) -> _Document:
    """Return annotations as a `kind`, an empty one if they are not of that shape.

    Args:
        document: the annotations.
        kind: can be made without arguments.
    """
    try:
        return msgspec.json.decode(document, type=kind)
    except UNREADABLE_JSON:
        return kind()


def replace_entry(document: msgspec.Raw, key: str, value: object) -> dict[str, object]:
    """Return annotations with another value of one key; the others are kept as they are."""
    return {**read_annotations(document, dict[str, msgspec.Raw]), key: value}
