"""Folders that nothing can be written to, and the modes of files."""

import os
import stat

import pytest

from helpers.digits import QUICK
from infobatch.lab.files import write_whole
from infobatch.lab.runs.folder import RunFolder


def test_an_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match=r"nothing can be written to .*; choose another --out"):
        RunFolder(tmp_path / "file" / "run").create(QUICK)


def test_a_file_can_be_read_by_whom_the_umask_lets(tmp_path):
    def write(path):
        path.touch(mode=0o600)

    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "file", write)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
