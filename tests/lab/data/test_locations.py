"""Files that are not there, and a download that fails: both say what to do."""

import huggingface_hub
import pytest

from infobatch.lab.data import load_data


def test_a_failed_download_says_what_to_do(monkeypatch):
    def fail(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.delenv("INFOBATCH_DATA_DIR", raising=False)
    with pytest.raises(ConnectionError, match=r"alpaca could not be downloaded .* give --data-dir"):
        load_data("alpaca")
    with pytest.raises(FileNotFoundError, match="bbh is not downloaded; give --data-dir with its train"):
        load_data("bbh")


def test_missing_files_name_the_folders_searched(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no train\*\.parquet.*download them from"):
        load_data("cifar10", tmp_path)
