"""Marks of data that only their folder tells apart."""

from infobatch.lab.data.marks import mark_of


def test_images_are_known_by_their_names_and_sizes_wherever_they_are(tmp_path):
    for place in ("a", "b/images", "c"):
        for split in ("train", "val"):
            for number in range(3):
                file = tmp_path / place / split / f"class {number % 2}" / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(bytes(10 + number))
    first = mark_of("images", tmp_path / "a")
    assert len(first) == 12
    assert mark_of("images", tmp_path / "b") == first
    (tmp_path / "a" / "runs").mkdir()
    (tmp_path / "a" / "runs" / "report.png").write_bytes(b"of no split")
    assert mark_of("images", tmp_path / "a") == first
    image = tmp_path / "a" / "train" / "class 0" / "0.png"
    image.rename(tmp_path / "a" / "train" / "class 1" / "0.png")
    (tmp_path / "c" / "train" / "class 0" / "0.png").write_bytes(bytes(11))
    marks = {first, mark_of("images", tmp_path / "a"), mark_of("images", tmp_path / "c")}
    assert len(marks) == 3


def test_images_of_the_hubs_layout_have_a_mark(tmp_path):
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "train-00000-of-00001.parquet"
    file.write_bytes(bytes(10))
    first = mark_of("images", tmp_path)
    file.write_bytes(bytes(11))
    assert len({"", first, mark_of("images", tmp_path)}) == 3


def test_images_to_evaluate_on_may_have_a_folder_of_any_name(tmp_path):
    for split in ("train", "mine"):
        (tmp_path / split / "cats").mkdir(parents=True)
        (tmp_path / split / "cats" / "0.png").write_bytes(bytes(10))
    alone = mark_of("images", tmp_path)
    marks = [mark_of("images", tmp_path, test) for test in ("mine", str(tmp_path / "mine"), "train")]
    assert marks[0] == marks[1] != alone == marks[2]
    (tmp_path / "mine" / "cats" / "0.png").write_bytes(bytes(11))
    assert mark_of("images", tmp_path) == alone
    assert mark_of("images", tmp_path, "mine") != marks[0]


def test_tables_and_instructions_are_known_by_their_content(tmp_path):
    for data, name in (("table", "train.csv"), ("instructions", "train.jsonl")):
        folder = tmp_path / data
        folder.mkdir()
        (folder / name).write_text("a,b\n1,2\n")
        first = mark_of(data, folder)
        assert mark_of(data, tmp_path) == first
        (folder / "notes.txt").write_text("no data")
        assert mark_of(data, folder) == first
        (folder / name).write_text("a,b\n1,3\n")
        assert mark_of(data, folder) != first


def test_what_its_name_tells_has_no_mark(tmp_path):
    (tmp_path / "train.csv").write_text("a")
    assert mark_of("cifar10", tmp_path) == mark_of("digits", None) == ""
    assert mark_of("table", None) == mark_of("table", tmp_path / "none") == ""
