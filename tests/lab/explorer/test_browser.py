"""The page is used as a reader would, in a real browser without a window."""

import csv
import json

import numpy as np
import pytest

from helpers.dynamics import write_epochs
from helpers.explorer import HOSTILE, NUM_EPOCHS, NUM_SAMPLES, pictures, record
from infobatch.dynamics.files import EpochRecord

pytest.importorskip("bokeh")

from infobatch.lab import explore
from infobatch.lab.commands.subsets import read_subset
from infobatch.lab.explorer import histories

CLASSES = ("shirt", "coat", HOSTILE)
LABELS = np.arange(NUM_SAMPLES) % 3


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    record(folder)
    vectors = np.eye(NUM_SAMPLES)
    vectors[4] = vectors[9]
    broken = [*pictures()[:-1], b"broken"]
    return explore(folder, images=broken, labels=LABELS, classes=CLASSES, embeddings=vectors)


def count(page):
    return page.inner_text("#count")


def cards(page):
    """The indices on the cards, in their order."""
    found = page.locator(".card").evaluate_all(
        "cards => cards.map(c => [+c.getAttribute('aria-posinset'), c.title])"
    )
    return [int(title.split()[1].rstrip(",")) for _, title in sorted(found)]


FRAME = """() => {
  const plot = Bokeh.documents[0].get_model_by_name("plot");
  const { left, top, width, height } = Bokeh.index.find_one(plot).frame.bbox;
  const box = document.getElementById("map").getBoundingClientRect();
  return [box.x + left, box.y + top, width, height];
}"""


def on_map(page, across, down):
    """The place on the screen at these shares of the map's frame."""
    left, top, width, height = page.evaluate(FRAME)
    return left + across * width, top + down * height


def drag(page, *points):
    """Press at the first point, move to the others and let go; shares of the map's frame."""
    page.mouse.move(*on_map(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*on_map(page, *point), steps=4)
    page.mouse.up()


def saved(page, button, path):
    with page.expect_download() as download:
        page.click(button)
    download.value.save_as(path)
    return path.read_text()


def test_a_lasso_and_a_box_choose_what_is_saved(open_page, images, tmp_path):
    page = open_page(images)
    assert count(page) == "60 samples"
    for axis, signal in (("#axis-x", "mean_loss"), ("#axis-y", "aum")):
        page.select_option(axis, signal)
    drag(page, (-0.05, 0.5), (0.5, 0.5))  # from the axis, where nothing begins
    drag(page, (0.01, 0.01), (0.5, 0.01), (0.5, 0.5), (0.01, 0.5), (0.01, 0.01))
    page.wait_for_function("document.getElementById('count').textContent !== '60 samples'")
    chosen = json.loads(saved(page, "#save-json", tmp_path / "indices.json"))
    assert read_subset(tmp_path / "indices.json", NUM_SAMPLES).tolist() == chosen
    assert chosen == list(range(len(chosen))), "those of the lowest loss and highest margin"
    assert 20 < len(chosen) < 40
    page.select_option("#which", "others")
    others = json.loads(saved(page, "#save-json", tmp_path / "others.json"))
    assert sorted(chosen + others) == list(range(NUM_SAMPLES))
    page.keyboard.press("Escape")
    assert count(page) == "60 samples"
    page.get_by_role("button", name="box").click()
    drag(page, (0.4, 0.3), (0.99, 0.99))
    page.wait_for_function("document.getElementById('count').textContent !== '60 samples'")
    page.select_option("#which", "chosen")
    chosen = json.loads(saved(page, "#save-json", tmp_path / "box.json"))
    assert chosen == list(range(chosen[0], NUM_SAMPLES))
    assert 10 < chosen[0] < 30


def test_filters_narrow_what_is_saved_with_labels_and_signals(open_page, images, tmp_path):
    page = open_page(images)
    page.get_by_role("button", name="coat").click()
    assert count(page) == "20 samples"
    page.click("#range-part summary")
    page.get_by_label("least mean loss").fill("0.9")
    page.keyboard.press("Tab")
    page.wait_for_function("document.getElementById('count').textContent === '4 samples'")
    rows = list(csv.DictReader(saved(page, "#save-csv", tmp_path / "i.csv").splitlines()))
    assert [int(row["index"]) for row in rows] == [49, 52, 55, 58]
    assert read_subset(tmp_path / "i.csv", NUM_SAMPLES).tolist() == [49, 52, 55, 58]
    assert {(row["label"], row["class"]) for row in rows} == {("1", "coat")}
    assert float(rows[0]["aum"]) == pytest.approx(0.5 - 49 / 60, rel=1 / 64)
    page.click("#clear")
    assert count(page) == "60 samples"
    assert page.get_by_label("least mean loss").input_value() == ""
    page.keyboard.press("/")
    page.keyboard.type("17")
    page.wait_for_function("document.getElementById('count').textContent === '1 sample'")
    assert cards(page) == [17]


def test_lists_are_in_their_order_and_can_be_turned_round(open_page, images):
    page = open_page(images)
    page.get_by_role("button", name="Suspects").click()
    assert cards(page)[:3] == [59, 58, 57]
    page.click("#direction")
    assert cards(page)[:2] == [31, 32]
    page.get_by_role("button", name="Near-duplicates").click()
    assert cards(page) == [4, 9]


def test_a_range_has_the_samples_at_its_bounds(open_page, tmp_path):
    index = np.arange(11)
    values = np.float32(0.1) + np.float32(0.0123) * index
    margins = [np.where(index > epoch, 1, -1).astype(np.float32) for epoch in range(10)]
    epochs = [EpochRecord(epoch, 11, 0, index, values, margins[epoch]) for epoch in range(10)]
    write_epochs(tmp_path / "dynamics", *epochs)
    page = open_page(explore(tmp_path))
    page.click("#range-part summary")
    for right in range(1, 10):  # the sample of this number was right in so many of ten epochs
        for what in ("least", "most"):
            page.get_by_label(f"{what} correctness").fill(str(right / 10))
        page.keyboard.press("Tab")
        assert count(page) == "1 sample"
    page.click("#clear")
    for field in page.locator("#ranges input").all():
        field.fill(field.get_attribute("placeholder"))
        page.keyboard.press("Tab")
    assert count(page) == "11 samples"


def test_a_sample_shows_its_picture_its_label_and_its_losses(open_page, images):
    page = open_page(images)
    page.get_by_role("button", name="Left out most").click()
    page.click(".card >> nth=1")
    detail = page.locator("#detail")
    assert detail.locator("h2").inner_text() == "Sample 1"
    assert "labelled coat" in detail.inner_text()
    assert detail.locator("svg .left-out").count() == NUM_EPOCHS - 2
    assert "left out of 4 of 6 epochs" in detail.locator("svg").get_attribute("aria-label")
    shade = "c => c.getContext('2d').getImageData(4, 4, 1, 1).data[0]"
    assert detail.locator("canvas").evaluate(shade) == 4
    page.keyboard.press("Escape")
    assert detail.is_hidden()
    assert page.get_by_role("button", name="Left out most").get_attribute("aria-pressed") == "true"


def test_a_curve_has_losses_of_any_size(open_page, tmp_path):
    """As squared errors of prices are."""
    losses = np.float32([[3e10, 0.02], [70_000, 3e-5]])
    epochs = [EpochRecord(epoch, 2, 0, np.arange(2), losses[epoch]) for epoch in range(2)]
    page = open_page(explore(write_epochs(tmp_path / "dynamics", *epochs)))
    for sample, highest, last in ((0, "3.0e10", 70_000), (1, "0.02", 3e-5)):
        page.click(f".card >> nth={sample}")
        curve = page.locator("#detail svg")
        assert curve.locator("text").first.text_content() == highest
        shown = curve.locator("circle title").last.text_content()
        assert float(shown.removeprefix("epoch 1: loss ")) == pytest.approx(last, rel=1 / 128)


def test_a_long_run_says_that_some_of_its_epochs_are_drawn(open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(histories, "MOST_LOSSES", 3 * NUM_SAMPLES)
    page = open_page(explore(record(tmp_path)))
    assert "The curves of losses have one of every 2 recorded epochs" in page.inner_text("header")
    page.click(".card >> nth=1")
    detail = page.locator("#detail")
    assert "loss by epoch, one of every 2; left out of 4 of 6" in " ".join(detail.inner_text().split())
    assert "left out of 4 of 6 epochs" in detail.locator("svg").get_attribute("aria-label")
    assert detail.locator("svg .left-out").count() == 2


def test_near_duplicates_lead_to_one_another(open_page, images):
    page = open_page(images)
    page.click(".card >> nth=4")
    page.get_by_role("button", name="Near-duplicate: sample 9").click()
    assert page.locator("#detail h2").inner_text() == "Sample 9"


def test_near_duplicates_of_a_class_of_any_name(open_page, tmp_path):
    vectors = np.eye(NUM_SAMPLES)
    vectors[5] = vectors[8]
    page = open_page(explore(record(tmp_path), labels=LABELS, classes=CLASSES, embeddings=vectors))
    page.click(".card >> nth=5")
    page.get_by_role("button", name="Near-duplicate: sample 8").click()
    assert page.locator("#detail h2").inner_text() == "Sample 8"


def test_an_image_that_does_not_open_has_a_crossed_box(open_page, images):
    page = open_page(images)
    assert "1 image does not open" in page.inner_text("header")
    page.fill("#query", "59")
    page.wait_for_function("document.getElementById('count').textContent === '1 sample'")
    page.click(".card")
    assert "Its image does not open" in page.inner_text("#detail")


def test_the_keyboard_is_enough(open_page, images):
    page = open_page(images)
    page.locator(".card").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("#detail h2").inner_text() == "Sample 1"
    page.keyboard.press("ArrowDown")
    across = int(page.locator("#detail h2").inner_text().split()[1]) - 1
    assert across > 3
    page.keyboard.press("ArrowLeft")
    assert page.locator("#detail h2").inner_text() == f"Sample {across}"
    page.keyboard.press("Escape")
    assert page.locator("#detail").is_hidden()
    assert page.evaluate("document.activeElement.title") == f"sample {across}, {CLASSES[across % 3]}"
    page.keyboard.press("End")
    assert f"sample {NUM_SAMPLES - 1}," in page.evaluate("document.activeElement.title")


def test_a_click_on_the_map_opens_the_sample_there(open_page, images):
    page = open_page(images)
    page.select_option("#axis-x", "mean_loss")
    page.select_option("#axis-y", "mean_loss")
    place = (40 / 60 + 0.125) / (59 / 60 + 0.125)  # mean losses begin with 0, of sample 0
    place = (place + 0.04) / 1.08  # for the margins of the map
    page.mouse.click(*on_map(page, place, 1 - place))
    assert page.locator("#detail h2").inner_text() == "Sample 40"


def test_hostile_names_and_texts_are_shown_as_they_are(open_page, tmp_path):
    record(tmp_path)
    texts = [f"{HOSTILE} {i}" for i in range(NUM_SAMPLES)]
    table = {HOSTILE: texts, "__proto__": np.arange(NUM_SAMPLES)}
    page = open_page(explore(tmp_path, labels=LABELS, classes=CLASSES, texts=texts, table=table))
    page.select_option("#color", "class")
    page.get_by_role("button", name=HOSTILE).click()
    for axis in ("#axis-x", "#axis-y"):
        page.select_option(axis, "times_trained")
    page.mouse.move(*on_map(page, 0.5, 0.5))
    page.mouse.move(*on_map(page, 1.04 / 1.08, 0.04 / 1.08), steps=5)  # the most, in the corner
    page.locator(".bk-Tooltip").get_by_text(HOSTILE).first.wait_for()
    page.fill("#query", "onerror")
    page.wait_for_timeout(200)
    assert count(page) == "20 samples"
    page.click(".card >> nth=0")
    assert f"labelled {HOSTILE}" in page.inner_text("#detail")
    assert f"{HOSTILE} 2" in page.inner_text("#detail .words")
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src=x]").count() == 0


def test_numbers_of_a_row_are_those_that_were_given(open_page, tmp_path):
    table = {
        "id": 1_874_000_000_000_000_001 + np.arange(NUM_SAMPLES),
        "price": np.full(NUM_SAMPLES, 123456.789),
        "count": 2_000_000_001 + np.arange(NUM_SAMPLES),
        "share": np.full(NUM_SAMPLES, 0.1, np.float32),
    }
    page = open_page(explore(record(tmp_path), table=table))
    page.click(".card >> nth=1")
    cells = page.locator("#detail table >> nth=-1").locator("td").all_inner_texts()
    assert cells == ["1874000000000000002", "123456.789", "2000000002", "0.1"]
    page.fill("#query", "1874000000000000002")
    page.wait_for_function("document.getElementById('count').textContent === '1 sample'")


def test_on_a_phone_nothing_is_wider_than_the_page(open_page, images):
    page = open_page(images, 390, 844)
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) <= 390
    page.locator("#grid-bar").scroll_into_view_if_needed()
    page.mouse.wheel(0, 600)
    page.wait_for_selector(".card")
    page.locator(".card").first.click()
    assert page.locator("#detail svg").is_visible()
    assert page.evaluate(wide) <= 390


def test_without_margins_labels_and_pictures_there_are_numbers(open_page, tmp_path):
    page = open_page(explore(record(tmp_path, margins=False)))
    assert page.locator("#class-part").is_hidden()
    assert page.locator("#lists button").all_inner_texts()[0].startswith("All")
    page.click(".card >> nth=3")
    assert page.locator("#detail canvas").count() == 0
    assert "mean loss" in page.inner_text("#detail")


def test_losses_below_0_are_on_the_map_by_their_mean(open_page, tmp_path):
    index = np.arange(5)
    epochs = [EpochRecord(epoch, 5, 0, index, -np.float32(epoch + index)) for epoch in range(3)]
    write_epochs(tmp_path / "dynamics", *epochs)
    page = open_page(explore(tmp_path))
    assert page.inner_text("#map-count") == "5 on the map"
    assert [page.input_value(f"#axis-{axis}") for axis in "xy"] == ["std_loss", "mean_loss"]
