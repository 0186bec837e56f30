"""Whether a client may have the image that it names in `KERNEL_IMAGE`. Pure."""

from collections.abc import Iterable

from enterprise_gateway.errors import ForbiddenError
from enterprise_gateway.services.kernelspecs.access import Access, decide_access
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.services.processproxies.engine.images import (
    fits_image,
    is_image_name,
    is_same_image,
)
from enterprise_gateway.services.processproxies.launch.environment import DEFAULT_IMAGE
from enterprise_gateway.settings import Settings

IMAGE = "KERNEL_IMAGE"


def check_image(image: str, username: str, specs: Iterable[Kernelspec], settings: Settings) -> None:
    """Raise `ForbiddenError` if a client may not choose an image.

    A text that is no image name is left to `choose_image`, which refuses it.

    Args:
        image: the image that the client names.
        username: the user of the kernel.
        specs: all kernelspecs. By default the images of those count that the user may start.
        settings: the settings.
    """
    if not is_image_name(image):
        return
    patterns = settings.docker.allowed_images
    if patterns:
        is_allowed = any(fits_image(pattern, image) for pattern in patterns)
    else:
        named = _named_images(username, specs, settings)
        is_allowed = any(is_same_image(name, image) for name in named)
    if is_allowed:
        return
    raise ForbiddenError(
        f"{IMAGE} asks for the image {image}, which is not allowed here. Leave {IMAGE} out to get "
        "the kernelspec's own, or have the operator add it to allowed_images (EG_ALLOWED_IMAGES)."
    )


def _named_images(
    username: str, specs: Iterable[Kernelspec], settings: Settings
) -> tuple[str, ...]:
    """Return the images that the operator names for kernels of a user."""
    named = [
        name
        for spec in specs
        if decide_access(username, spec.config, settings.kernels) is Access.GRANTED
        for name in (spec.spec.env.get(IMAGE), spec.config.image_name)
    ]
    found = {name for name in named if name}
    return (*sorted(found), settings.docker.kernel_image or DEFAULT_IMAGE)
