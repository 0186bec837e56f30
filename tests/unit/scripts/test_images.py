"""Which images are built, when, and from what."""

import re
import tarfile
from pathlib import Path

import pytest

from bringup.console import SetupError
from bringup.images import (
    GATEWAY,
    IMAGES,
    KERNEL,
    MACHINE,
    PROXY,
    Image,
    context,
    digest,
    find_images,
    read_inputs,
)

ROOT = Path(__file__).resolve().parents[3]


def write(root: Path) -> None:
    """Lay out a small source tree."""
    (root / "agent" / "__pycache__").mkdir(parents=True)
    (root / "agent" / "main.py").write_text("1")
    (root / "agent" / "__pycache__" / "main.pyc").write_text("x")
    (root / "start.sh").write_text("exec")
    (root / "start.sh").chmod(0o755)


def test_read_inputs_takes_files_and_folders_without_generated_files(tmp_path: Path) -> None:
    """Modes are what matters to a container: executable or not."""
    write(tmp_path)
    assert read_inputs(tmp_path, ["start.sh", "agent"]) == {
        "agent/main.py": (0o644, b"1"),
        "start.sh": (0o755, b"exec"),
    }


def test_digest_changes_with_content_name_and_mode() -> None:
    """And with nothing else, so that a build is not repeated for nothing."""
    variants = [
        {"a": (0o644, b"1")},
        {"a": (0o644, b"2")},
        {"b": (0o644, b"1")},
        {"a": (0o755, b"1")},
        {},
    ]
    assert len({digest(variant) for variant in variants}) == len(variants)
    assert digest({"a": (0o644, b"1")}) == digest({"a": (0o644, b"1")})


def test_context_is_a_tar_of_the_files_without_times() -> None:
    """The same files give the same bytes, whoever wrote them and when."""
    stream = context({"a/b": (0o755, b"text")})
    with tarfile.open(fileobj=stream) as tar:
        (entry,) = tar.getmembers()
        content = tar.extractfile(entry)
        assert content is not None
        assert (entry.name, entry.mode, entry.mtime, content.read()) == ("a/b", 0o755, 0, b"text")


def test_images_are_chosen_by_name_or_all() -> None:
    """Without a name it is all of them."""
    assert find_images([]) == IMAGES
    assert find_images(["enterprise-gateway", "kernel-py"]) == (GATEWAY, KERNEL)
    with pytest.raises(SetupError, match=r"no such image: r-kernel \(there are kernel-py, "):
        find_images(["kernel-py", "r-kernel"])


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_dockerfile_copies_nothing_but_inputs(image: Image) -> None:
    """What a build uses decides whether it is repeated."""
    inputs = (image.folder, MACHINE, *image.inputs)
    lines = (ROOT / image.folder / "Dockerfile").read_text().splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ")]
    sources = [path for words in copies if not words[0].startswith("--from") for path in words]
    assert sources
    for path in sources:
        assert list(ROOT.glob(path)), path
        assert any(path == name or path.startswith(f"{name}/") for name in inputs), path


def test_stack_names_the_images_of_this_version() -> None:
    """Unless the environment names others."""
    stack = (ROOT / "etc" / "docker" / "docker-compose.yml").read_text()
    named = re.findall(r"image: \$\{\w+:-(.+)\}", stack)
    assert set(named) == {GATEWAY.tag, PROXY.tag}
