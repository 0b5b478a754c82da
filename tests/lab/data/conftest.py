"""Images in folders, as ImageNet's are, and a table in one file."""

import pytest

from helpers.images import picture

DAYS = ["2026-01-01", "2026-01-03", "NA", "2026-02-01"]
OWN = "day,at,amount,country,fraud\n" + "".join(
    f"{day},{'' if day == 'NA' else day + ' 00:00:01'},{amount},DE,{amount % 2}\n"
    for amount, day in enumerate(DAYS)
)


@pytest.fixture
def folders(tmp_path):
    for split, count in (("train", 8), ("val", 2)):
        for label, name in enumerate(("n01", "n02", "n03")):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{name}_{i}.JPEG").write_bytes(picture(label, i))
    return tmp_path


@pytest.fixture
def own_file(tmp_path):
    file = tmp_path / "own.csv"
    file.write_text(OWN)
    return file
