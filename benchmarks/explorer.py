"""How long a page of `infobatch explore` takes to open in a browser, and how smooth its lasso is.

    python benchmarks/explorer.py [--data NAME] [--data-dir DIR] [--samples N] [--epochs N] [--repeats N]
                                  [--json FILE]
    python benchmarks/explorer.py --page FILE.html --picture FILE.png

Images are those of a data set; the losses and margins of their epochs are made up, for what they are
does not matter here. Opening ends when the map and the first samples are drawn and the whole file is
read, by the page's own marks. The lasso is drawn around a third of the map, in 60 moves; the longest
time between two frames is that of the drag, and the choice follows it. Limits: 3 seconds, and 0.2
between two frames. With ``--page`` a page that is there is only pictured, with its first suspect open.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from infobatch.dynamics.files import EpochRecord, write_epoch
from infobatch.lab.data import load_data
from infobatch.lab.explorer import contents_of, open_run, write_page
from infobatch.lab.runs.environment import describe_environment

OPENING, FRAME = 3.0, 0.2
"""The limits, in seconds."""
OPEN = "() => document.documentElement.dataset.ready && document.readyState === 'complete'"
TIMES = """() => Math.max(
  performance.getEntriesByName("explorer:open")[0].startTime,
  performance.getEntriesByType("navigation")[0].loadEventEnd,
) / 1000"""
WATCH = """() => {
  window.frames_ = [];
  let last = performance.now();
  const step = (now) => (frames_.push(now - last), (last = now), requestAnimationFrame(step));
  requestAnimationFrame(step);
}"""


def record(folder: Path, num_samples: int, num_epochs: int) -> None:
    """Write made-up epochs: samples of different difficulty are learned, and about a third left out."""
    rng = np.random.default_rng(0)
    difficulty = rng.beta(1, 4, num_samples)
    folder.mkdir()
    for epoch in range(num_epochs):
        learned = 6 * (1 - math.exp(-epoch / 3)) * (1 - 1.5 * difficulty)
        margins = (0.3 + learned + rng.normal(0, 0.8, num_samples)).astype(np.float32)
        losses = np.log1p(np.exp(-margins))
        kept = np.flatnonzero((rng.random(num_samples) < 0.65) | (losses > 0.3) | (epoch == 0))
        write_epoch(
            folder, EpochRecord(epoch, num_samples, 0, kept, losses[kept], margins[kept]), None, 1
        )


@contextmanager
def browser(width: int, height: int) -> Iterator[Any]:
    """A page of Chromium without a window, of this size in pixels."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=found)
        yield launched.new_page(viewport={"width": width, "height": height})
        launched.close()


def open_seconds(page: Path) -> float:
    """The seconds from the first byte to a page that can be used, in a new browser."""
    with browser(1400, 1000) as window:
        window.goto(page.resolve().as_uri())
        window.wait_for_function(OPEN)
        return float(window.evaluate(TIMES))


def lasso_seconds(page: Path) -> tuple[float, float]:
    """The longest time between two frames of a drag, and the time from its end to the choice."""
    with browser(1400, 1000) as window:
        window.goto(page.resolve().as_uri())
        window.wait_for_function(OPEN)
        box = window.locator("#map").bounding_box()
        before = window.inner_text("#count")
        center = box["x"] + box["width"] / 2, box["y"] + 0.45 * box["height"]
        around = [2 * math.pi * step / 60 for step in range(61)]
        window.evaluate(WATCH)
        for step, angle in enumerate(around):
            across, up = 0.3 * box["width"] * math.cos(angle), 0.3 * box["height"] * math.sin(angle)
            window.mouse.move(center[0] + across, center[1] + up)
            if step == 0:
                window.mouse.down()
        frame = window.evaluate("() => Math.max(...frames_) / 1000")
        began = time.perf_counter()
        window.mouse.up()
        window.wait_for_function(f"document.getElementById('count').textContent !== {before!r}")
        return float(frame), time.perf_counter() - began


def picture(page: Path, path: Path) -> None:
    """Write what a reader sees of a page who has opened its first suspect."""
    with browser(1500, 1240) as window:
        window.goto(page.resolve().as_uri())
        window.wait_for_function(OPEN)
        window.get_by_role("button", name="Suspects").click()
        window.locator(".card").first.click()
        window.get_by_role("button", name="All", exact=False).first.click()
        window.select_option("#order", "aum")
        window.evaluate("() => scrollTo(0, 0)")
        window.wait_for_timeout(1000)
        window.screenshot(path=path)
    Image.open(path).quantize(256).save(path, optimize=True)  # a third of the size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10", help="a set of images in memory")
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--samples", type=int, default=0, help="by default all of the training set")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5, help="how often it is opened (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--page", type=Path, metavar="HTML", help="a page to picture")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="where to write the picture")
    options = parser.parse_args()
    if (options.page is None) != (options.picture is None):
        parser.error("--page and --picture need one another")
    if options.page:
        picture(options.page, options.picture)
        return
    data = load_data(options.data, options.data_dir).split(0.0, options.samples)
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder) / "dynamics", len(data.train), options.epochs)
        began = time.perf_counter()
        page = write_page(open_run(folder), contents_of(data), title=data.name, most=len(data.train))
        writing, size = time.perf_counter() - began, page.stat().st_size / 1e6
        opening = [open_seconds(page) for _ in range(options.repeats)]
        drags = [lasso_seconds(page) for _ in range(options.repeats)]
    frame, choice = (statistics.median(each) for each in zip(*drags, strict=True))
    result = {
        "data": data.name,
        "samples": len(data.train),
        "epochs": options.epochs,
        **describe_environment(torch.device("cpu")),
        "load": round(os.getloadavg()[0], 2),
        "megabytes": round(size, 1),
        "writing": round(writing, 1),
        "opening": [round(each, 2) for each in opening],
        "longest frame": round(frame, 3),
        "choice": round(choice, 2),
    }
    print(", ".join(f"{name} {value}" for name, value in result.items()))
    seconds = statistics.median(opening)
    for what, value, limit in (("opening", seconds, OPENING), ("the longest frame", frame, FRAME)):
        print(f"{what} {value:.2f} s; limit {limit:g}: {'ok' if value <= limit else 'over'}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
