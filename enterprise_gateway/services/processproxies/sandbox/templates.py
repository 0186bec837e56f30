"""`{username}` and `{kernel_id}` in what kernelspecs state. Pure."""

import re
from collections.abc import Mapping

_TEMPLATE = re.compile(r"\{(username|kernel_id)\}")


class TemplateError(Exception):
    """Braces stand for something else; the message, a sentence without its end, says where."""


def replace_templates(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its templates replaced.

    Args:
        text: as it is stated.
        values: of `username` and `kernel_id`; they contain letters, digits and hyphens only.

    Raises:
        TemplateError: braces stand for something else. Swarm would expand `{{…}}`.
    """
    if re.search("[{}]", _TEMPLATE.sub("", text)):
        raise TemplateError(
            f"braces in {text[:200]!r} may only be those of {{username}} and {{kernel_id}}"
        )
    return _TEMPLATE.sub(lambda match: values[match[1]], text)
