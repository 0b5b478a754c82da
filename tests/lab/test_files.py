"""Folders and disks that nothing can be written to, and files that are not what they should be."""

import os
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from helpers import full_disk, run, stop_after
from helpers.digits import QUICK
from infobatch.lab.files import load_tensors, write_whole
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.pauses import Interrupted


@contextmanager
def read_only():
    """A folder, and what makes it one to read alone, for the superuser too."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        try:
            yield path, lambda: (path.chmod(0o555), os.seteuid(user or 65534))
        finally:
            os.seteuid(user)
            path.chmod(0o755)


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


def test_a_full_disk_leaves_the_older_checkpoint(data, tmp_path):
    with pytest.raises(Interrupted):
        run(QUICK, data, tmp_path, should_stop=stop_after(13))
    older = (tmp_path / "checkpoint.pt").read_bytes()
    message = (
        r"checkpoint\.pt cannot be written \(File too large\), and what was there .* is kept; make room"
    )
    with full_disk(), pytest.raises(OSError, match=message):
        run(QUICK, data, tmp_path, should_stop=stop_after(3))
    assert (tmp_path / "checkpoint.pt").read_bytes() == older
    assert not list(tmp_path.glob("*.part"))
    assert run(QUICK, data, tmp_path).result > 60


def test_a_full_disk_leaves_no_half_of_a_model(tmp_path):
    folder = RunFolder(tmp_path)
    message = r"model\.safetensors cannot be written \(.*File too large"
    with full_disk(1000), pytest.raises(OSError, match=message):
        folder.save_model(torch.nn.Linear(50, 50))
    assert not list(tmp_path.iterdir())


def test_a_read_only_folder_keeps_its_checkpoint():
    with read_only() as (path, close):
        folder = RunFolder(path)
        folder.save_checkpoint({"step": 1})
        close()
        message = r"checkpoint\.pt cannot be written \(Permission denied\).* give write access"
        with pytest.raises(OSError, match=message):
            folder.save_checkpoint({"step": 2})
        assert folder.load_checkpoint() == {"step": 1}
        with pytest.raises(PermissionError, match="nothing can be written to"):
            RunFolder(path / "new").claim()


def test_what_is_wrong_with_the_content_is_told_as_it_is(tmp_path):
    def write(path):
        path.write_text("half")
        raise ValueError("no number")

    with pytest.raises(ValueError, match=r"^no number$"):
        write_whole(tmp_path / "file", write)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04cut off", b"\x80\x02cos\nsystem\n."])
def test_files_that_are_no_tensors_are_named(content, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt cannot be read \(\w+\); remove it"):
        load_tensors(path, "remove it")
    torch.save([1], path)
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt holds a list, and no state of a run; remove it"
    ):
        load_tensors(path, "remove it")
