"""The Swarm of the tests, as far as it can be without making one."""

import os
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from devtools.console import SetupError
from swarmlab.images import link_root
from swarmlab.lab import swarm_lab
from swarmlab.lock import OVERLAYS, LabLock
from swarmlab.network import Underlay

MAX_LINK_CHARS = 15


def test_lab_without_root_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that need it fail; they do not pass by not running."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SetupError, match="only root"), swarm_lab():
        pass


def test_claims_share_nothing() -> None:
    """Networks of two labs do not overlap, nor with the overlay networks; names fit."""
    first, last = LabLock(0), LabLock(255)
    assert not first.subnet.overlaps(last.subnet)
    assert not first.subnet.overlaps(IPv4Network(OVERLAYS))
    assert len(last.tag) <= MAX_LINK_CHARS
    assert first.paths != last.paths


def test_nodes_have_addresses_of_their_own() -> None:
    """No node has the address of another or of this machine."""
    underlay = Underlay("lab", IPv4Network("10.214.7.0/24"))
    addresses = [underlay.gateway, *(underlay.address(number) for number in (1, 2, 3))]
    assert addresses == ["10.214.7.254", "10.214.7.1", "10.214.7.2", "10.214.7.3"]
    assert underlay.mac(2) == "02:00:0a:d6:07:02"


def test_linked_root_has_layers_of_the_template_and_a_database_of_its_own(tmp_path: Path) -> None:
    """What Docker changes is copied, what it only reads is not."""
    template, root = tmp_path / "template", tmp_path / "root"
    (template / "image").mkdir(parents=True)
    (template / "image" / "repositories.json").write_text("{}")
    (template / "overlay2" / "abc" / "diff").mkdir(parents=True)
    (template / "overlay2" / "l").mkdir()
    (template / "overlay2" / "l" / "SHORT").symlink_to("../abc/diff")
    link_root(template, root)
    assert (root / "overlay2" / "abc").resolve() == template / "overlay2" / "abc"
    assert (root / "overlay2" / "l" / "SHORT").samefile(template / "overlay2" / "abc" / "diff")
    assert not (root / "image" / "repositories.json").samefile(
        template / "image" / "repositories.json"
    )
