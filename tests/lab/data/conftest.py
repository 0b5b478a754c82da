"""Images in folders, as ImageNet's are."""

import pytest

from helpers.images import picture


@pytest.fixture
def folders(tmp_path):
    for split, count in (("train", 8), ("val", 2)):
        for label, name in enumerate(("n01", "n02", "n03")):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{name}_{i}.JPEG").write_bytes(picture(label, i))
    return tmp_path
