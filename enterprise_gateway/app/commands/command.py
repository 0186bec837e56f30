"""What every command of `jupyter enterprisegateway` has in common."""

import logging
import sys

from jupyter_core.application import base_aliases
from traitlets import Enum

from enterprise_gateway.app.application import EnterpriseGatewayApp


class Command(EnterpriseGatewayApp):
    """A command that prints its result and logs only warnings and errors."""

    subcommands = {}  # noqa: RUF012 - traitlets' own way to declare them
    aliases = base_aliases
    flags = {  # noqa: RUF012 - likewise
        name: EnterpriseGatewayApp.flags[name]
        for name in ("debug", "show-config", "show-config-json")
    }

    log_level = Enum(
        EnterpriseGatewayApp.log_level.values,
        default_value=logging.WARNING,
        help=EnterpriseGatewayApp.log_level.help,
    ).tag(config=True)


def print_line(text: str) -> None:
    """Print a line on standard output."""
    sys.stdout.write(f"{text}\n")
