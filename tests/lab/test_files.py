"""Folders that nothing can be written to."""

import pytest

from helpers.digits import QUICK
from infobatch.lab.runs.folder import RunFolder


def test_an_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match=r"nothing can be written to .*; choose another --out"):
        RunFolder(tmp_path / "file" / "run").create(QUICK)
