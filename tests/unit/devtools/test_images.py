"""Which images are built, when, and from what."""

import json
import re
import tarfile
from pathlib import Path

import pytest

from devtools.console import SetupError
from devtools.images import (
    GATEWAY,
    IMAGES,
    KERNEL,
    MACHINE,
    PROXY,
    STEPS,
    TENSORFLOW_GPU_KERNEL,
    Image,
    context,
    digest,
    find_images,
    read_inputs,
)
from enterprise_gateway._version import __version__

ROOT = Path(__file__).resolve().parents[3]
KERNELSPECS = ROOT / "etc" / "kernelspecs"


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
    """The same files give the same bytes, whichever user wrote them, and when."""
    stream = context({"a/b": (0o755, b"text")})
    with tarfile.open(fileobj=stream) as tar:
        (entry,) = tar.getmembers()
        content = tar.extractfile(entry)
        assert content is not None
        assert (entry.name, entry.mode, entry.mtime, content.read()) == ("a/b", 0o755, 0, b"text")


def test_images_are_chosen_by_name_or_all() -> None:
    """Without a name it is all of them but what few have a use for."""
    assert set(find_images([])) == set(IMAGES) - {TENSORFLOW_GPU_KERNEL}
    assert find_images(["enterprise-gateway", "kernel-py"]) == (GATEWAY, KERNEL)
    with pytest.raises(SetupError, match=r"no such image: r-kernel \(there are kernel-py, "):
        find_images(["kernel-py", "r-kernel"])


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_dockerfile_copies_nothing_but_inputs(image: Image) -> None:
    """What a build uses decides whether it is repeated."""
    inputs = (image.folder, MACHINE, STEPS, *image.inputs)
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


def test_no_image_of_ours_is_named_as_one_of_a_public_registry() -> None:
    """A name without a host is Docker Hub's, and nodes of a Swarm ask there at every launch."""
    own = "|".join(re.escape(image.name) for image in IMAGES)
    bare = re.compile(rf"(?<![\w./-])enterprise-gateway/(?:{own}):")
    sources = (
        "benchmarks",
        "docs",
        "enterprise_gateway",
        "etc",
        "kernel_agent",
        "scripts",
        "tools",
    )
    files = [file for name in sources for file in (ROOT / name).rglob("*") if file.is_file()]
    texts = {file: file.read_text(encoding="utf-8", errors="ignore") for file in files}
    # the page on this decision names one for contrast
    naming = {file.name for file, text in texts.items() if bare.search(text)}
    assert naming <= {"0023-name-images-under-localhost.md"}
    assert all(image.tag.startswith("localhost/") for image in IMAGES)


@pytest.mark.parametrize("spec", sorted(KERNELSPECS.glob("*/kernel.json")), ids=str)
def test_kernelspec_names_an_image_that_is_built_here(spec: Path) -> None:
    """Of this version, once it is installed."""
    name = json.loads(spec.read_text())["metadata"]["process_proxy"]["config"]["image_name"]
    assert name.replace("VERSION", __version__) in {image.tag for image in IMAGES}


def test_image_of_a_kernel_says_that_it_has_an_agent() -> None:
    """So that the gateway need not give it one."""
    for image in IMAGES:
        text = (ROOT / image.folder / "Dockerfile").read_text()
        assert ("LABEL enterprise-gateway.agent=1\n" in text) is image.name.startswith("kernel-")
