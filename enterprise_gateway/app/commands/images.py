"""`jupyter enterprisegateway images`: lists and pulls the images of the installed kernelspecs.

It needs no gateway, and runs with the gateway's configuration and credentials of registries.
"""

import logging
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from traitlets import Enum

from enterprise_gateway.app.application import EnterpriseGatewayApp
from enterprise_gateway.app.commands.command import Command, print_line
from enterprise_gateway.app.commands.list_command import ListCommand
from enterprise_gateway.errors import InvalidRequestError
from enterprise_gateway.services.composition import GatewayServices
from enterprise_gateway.services.images import SpecImage
from enterprise_gateway.settings import LiveSettings

COLUMNS = ("IMAGE", "ON THE ENGINE", "PULL POLICY", "KERNELSPECS")


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image in the list."""

    image: str
    is_present: bool
    pull_policy: str
    kernelspecs: list[str]

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the image's row in the table."""
        present = "yes" if self.is_present else "no"
        return self.image, present, self.pull_policy, ", ".join(self.kernelspecs)


def image_rows(found: Iterable[SpecImage]) -> list[ImageRow]:
    """Return a row for each image and policy, with all kernelspecs that have them."""
    rows: dict[tuple[str, str], ImageRow] = {}
    for each in found:
        image = each.image
        if image is not None:
            key = image.name, image.pull_policy
            row = rows.setdefault(key, ImageRow(image.name, image.is_present, key[1], []))
            row.kernelspecs.append(each.kernelspec)
    return list(rows.values())


class ImageListApp(ListCommand):
    """Lists the images of the installed kernelspecs, and whether the engine has them."""

    name = "jupyter enterprisegateway images list"
    description = __doc__ or ""
    examples = "jupyter enterprisegateway images list --json"

    async def run(self) -> None:
        """Print the list; exit with code 1 if something is not known."""
        services = GatewayServices(LiveSettings(self.read_settings()))
        async with services.running():
            found = await services.images.all()
        rows = image_rows(found)
        table = [COLUMNS, *(row.cells() for row in rows)]
        self.print_list([asdict(row) for row in rows], table, "No images.")
        self.end(found)

    def end(self, found: Iterable[SpecImage]) -> None:
        """Log what went wrong, and exit with code 1 if something did."""
        troubles = [each for each in found if each.trouble]
        for each in troubles:
            self.log.error("Kernelspec %s: %s", each.kernelspec, each.trouble)
        if troubles:
            sys.exit(1)


class ImagePullApp(Command):
    """Has the engine pull the images of kernelspecs, those that it has as well.

    Arguments are names of kernelspecs; without any, all of them count.
    """

    name = "jupyter enterprisegateway images pull"
    description = __doc__ or ""
    examples = """jupyter enterprisegateway images pull
jupyter enterprisegateway images pull python_docker R_docker"""

    takes_arguments = True
    log_level = Enum(
        EnterpriseGatewayApp.log_level.values,
        default_value=logging.INFO,
        help=EnterpriseGatewayApp.log_level.help,
    ).tag(config=True)

    async def run(self) -> None:
        """Pull, print a line for each kernelspec, and exit with code 1 if an image is missing."""
        services = GatewayServices(LiveSettings(self.read_settings()))
        is_complete = True
        async with services.running():
            async for each in services.images.pull(self.extra_args, again=True):
                print_line(f"{each.kernelspec}: {describe(each)}")
                is_complete &= not each.trouble and each.image is not None and each.image.is_present
        if not is_complete:
            sys.exit(1)


def describe(found: SpecImage) -> str:
    """Return a sentence about the image of a kernelspec after an attempt to pull it."""
    if found.trouble or found.image is None:
        return found.trouble
    image = found.image
    if image.is_present:
        return f"{image.name} is on the engine"
    return f"{image.name} is not on the engine, and is not pulled: build or load it"


class ImagesApp(Command):
    """Lists and pulls the images of the installed kernelspecs."""

    name = "jupyter enterprisegateway images"
    description = __doc__ or ""
    examples = "jupyter enterprisegateway images list"
    subcommands = {  # noqa: RUF012 - traitlets' own way to declare them
        "list": (ImageListApp, "List the images."),
        "pull": (ImagePullApp, "Pull images."),
    }

    async def run(self) -> None:
        """Refuse to run without a subcommand."""
        raise InvalidRequestError("Name a subcommand: list or pull.")
