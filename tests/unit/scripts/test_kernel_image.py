"""When the kernel image is built, and from what."""

import tarfile
from pathlib import Path

from bringup.kernel_image import context, digest, read_inputs


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
