"""Images in folders, as people have them."""

import shutil

import pytest
import torch

from infobatch.lab.data import load_data, make_feed


@pytest.fixture
def root(folders):
    return folders / "imagenet"


def test_what_systems_leave_behind_is_passed_over(root):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._n01_0.JPEG"):
        (root / "train" / "n01" / name).write_bytes(b"none")
        (root / "train" / name).write_bytes(b"none")
    (root / "val" / ".ipynb_checkpoints").mkdir()
    (root / "val" / "n01" / "__MACOSX").mkdir()
    data = load_data("images", root)
    assert (data.num_classes, len(data.train), len(data.test)) == (3, 24, 6)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_images_to_evaluate_on_lie_in_any_of_the_usual_folders(root, name):
    (root / "val").rename(root / name)
    data = load_data("images", root)
    assert data.tested_on == name
    assert data.notes == (f"images: 24 images of 3 classes to train on, and 6 of {name} to evaluate on",)


def test_the_first_of_the_usual_folders_is_taken_unless_one_is_named(root):
    for name in ("test", "held out"):
        shutil.copytree(root / "val", root / name)
    assert load_data("images", root).tested_on == "val"
    assert load_data("images", root, test="held out").tested_on == "held out"
    with pytest.raises(FileNotFoundError, match=r"no folder dev, .* \(held out, test, train, val"):
        load_data("images", root, test="dev")


def test_where_there_are_none_a_part_of_the_training_images_is_held_out(root):
    shutil.rmtree(root / "val")
    with pytest.raises(FileNotFoundError, match=r"such as val or .*: --test train --held-out 0.1"):
        load_data("images", root)
    data = load_data("images", root, test="train").split(0.25, 0)
    assert (len(data.train), len(data.test), data.tested_on) == (18, 6, "train")


def test_names_have_any_characters(root):
    moved = root.parent / "my [/x] images é"
    moved.parent.mkdir()
    root.rename(moved)
    for split in ("train", "val"):
        (moved / split / "n01").rename(moved / split / "[red] gänse")
    data = load_data("images", moved)
    assert data.class_names == ("[red] gänse", "n02", "n03")
    assert make_feed(data, torch.device("cpu"), 0, 0).dataset[0][1] == 0


def _deeper(root):
    (root / "train").rename(root / "flowers")
    (root / "train").mkdir()
    (root / "flowers").rename(root / "train" / "flowers")


def _mixed(root):
    (root / "train" / "n02" / "more").mkdir()


def _without_images(root):
    shutil.rmtree(root / "train" / "n02")
    (root / "train" / "n02").mkdir()


def _none_tested(root):
    shutil.rmtree(root / "val" / "n02")
    (root / "val" / "n02").mkdir()


def _not_tested(root):
    shutil.rmtree(root / "val" / "n02")


def _tested_alone(root):
    (root / "val" / "n04").mkdir()


def _beside(root):
    shutil.copy(root / "train" / "n01" / "n01_0.JPEG", root / "train")


def _no_image(root):
    (root / "train" / "n01" / "notes.txt").write_text("none")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_deeper, r"class flowers, .*train/flowers, holds 3 folders \(n01, n02, n03\), .*one level up"),
        (_mixed, r"class n02, .*, holds 1 folder \(more\), and must hold images alone"),
        (_without_images, "class n02, .*train/n02, holds no images; add some, or .* from all splits"),
        (_none_tested, "class n02, .*val/n02, holds no images; add some, or .* from all splits"),
        (_not_tested, "val has no folder n02, a class .*: sort .* into them, or .* from all splits"),
        (_tested_alone, "val holds the folder n04, which is no class of the training images"),
        (_beside, r"holds 1 image \(n01_0.JPEG\) beside 3 class folders"),
        (_no_image, r"n01/notes\.txt is no image by its name; remove it"),
    ],
)
def test_what_would_train_on_other_images_than_meant_is_an_error(root, spoil, message):
    spoil(root)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_data("images", root)


def test_a_folder_above_is_told_where_the_images_are(folders):
    with pytest.raises(FileNotFoundError, match=r"folder \(imagenet\): give --data-dir .*imagenet"):
        load_data("images", folders)
