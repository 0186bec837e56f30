"""The table of `jupyter enterprisegateway images list`."""

from enterprise_gateway.app.commands.images import describe, image_rows
from enterprise_gateway.services.images import SpecImage
from enterprise_gateway.services.processproxies.contract import KernelImage

IMAGE = KernelImage("team/kernel:1", is_present=True, pull_policy="IfNotPresent")


def test_kernelspecs_of_one_image_share_a_row() -> None:
    """But not those with another policy; what is not known has none."""
    always = KernelImage("team/kernel:1", is_present=True, pull_policy="Always")
    rows = image_rows(
        [
            SpecImage("a", IMAGE),
            SpecImage("b", IMAGE),
            SpecImage("c", always),
            SpecImage("d", None, "no engine"),
        ]
    )
    assert [row.cells() for row in rows] == [
        ("team/kernel:1", "yes", "IfNotPresent", "a, b"),
        ("team/kernel:1", "yes", "Always", "c"),
    ]


def test_image_that_is_only_built_is_told() -> None:
    """After an attempt to pull it."""
    missing = KernelImage("localhost/kernel:1", is_present=False, pull_policy="IfNotPresent")
    assert "build or load it" in describe(SpecImage("a", missing))
    assert describe(SpecImage("a", IMAGE)) == "team/kernel:1 is on the engine"
    assert describe(SpecImage("a", missing, "the registry refuses")) == "the registry refuses"
