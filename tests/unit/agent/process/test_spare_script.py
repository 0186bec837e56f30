"""What a spare takes for a change of its files."""

import os
from pathlib import Path

from kernel_agent.process.spare_script import module_files, package_folders, stamps


def test_stamps_change_with_files_and_the_entries_of_folders(tmp_path: Path) -> None:
    """New, replaced, changed and removed ones; what stays is the same."""
    folder, file, missing = tmp_path / "site-packages", tmp_path / "file", tmp_path / "missing"
    folder.mkdir()
    file.write_text("1")
    paths = [str(folder), str(file), str(missing), "\0"]
    before = stamps(paths)
    assert stamps(paths) == before
    os.utime(folder, ns=(1, 1))  # some file systems have coarse times
    former = stamps(paths)
    (folder / "new.pth").write_text("")
    assert stamps(paths) != former
    former = stamps(paths)
    file.write_text("22")
    assert stamps(paths) != former
    former = stamps(paths)
    missing.mkdir()
    assert stamps(paths) != former


def test_own_files_and_folders_are_known() -> None:
    """Those of the modules that are loaded, and the folders that installers write to."""
    assert __file__ in module_files()
    assert any(folder.endswith("site-packages") for folder in package_folders())
