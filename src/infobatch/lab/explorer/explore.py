"""A run's data, explored on one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infobatch.dynamics import Dynamics, read_dynamics
from infobatch.lab.explorer.contents import ByIndex, Contents
from infobatch.lab.explorer.duplicates import MOST_PAIRS, near_duplicates
from infobatch.lab.explorer.facts import Facts, choose_shown
from infobatch.lab.explorer.histories import Histories, read_histories
from infobatch.lab.explorer.lists import SampleList, make_lists
from infobatch.lab.explorer.page import write_explorer
from infobatch.lab.explorer.scatter import import_bokeh
from infobatch.lab.explorer.thumbnails import LARGEST, Thumbnails, make_thumbnails
from infobatch.lab.files import make_writable

MOST = 60_000
"""How many samples a page shows where nothing else is said."""


def explore(
    run: str | Path,
    *,
    images: ByIndex | None = None,
    labels: Any = None,
    classes: Sequence[str] = (),
    texts: Sequence[str] | None = None,
    table: Any = None,
    embeddings: Any = None,
    out: str | Path | None = None,
    title: str = "",
    most: int = MOST,
    thumbnail: int = LARGEST,
) -> Path:
    """Write a page that shows each sample of a recorded run: one HTML file, which needs no network.

    All that is given of the samples is in the order of the dataset that was trained on, N entries each.

    Args:
        run: The folder that ``record_to=`` named, or a run's folder of the lab.
        images: The image of each sample: paths, arrays (H, W) or (H, W, C), tensors (C, H, W), pictures
            of Pillow, or a dataset whose items, or their first entries, are such. Floats within 0 and 1
            are shades; others are stretched from their least to their greatest.
        labels: The class of each sample, as numbers from 0 or as names.
        classes: The names of the classes in the order of their numbers; by default the numbers, or the
            names that ``labels`` has.
        texts: The text of each sample, of which 1,000 characters are shown.
        table: The columns of a table, by their names: a mapping, or a table of pandas.
        embeddings: A vector for each sample, (N, D), for the list of near-duplicates.
        out: The file to write; by default ``explore.html`` beside the recorded folder, or
            ``explore-NAME.html`` if that is not called ``dynamics``.
        title: What the page calls the data; by default the name of the folder around the recorded one.
        most: How many samples the page shows, at least 1; of more, the first of each list and others at
            random.
        thumbnail: The longer side of a thumbnail at most, in pixels, from 8 to 256.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If nothing was recorded there, or what is given is not of the samples that were.
        ImportError: If the packages of ``pip install 'infobatch[explore]'`` are not installed.
    """
    numbers, names = _numbered(labels, classes)
    columns = None if table is None else {str(name): _column(table, name) for name in table}
    contents = Contents(numbers, names, _by_place(images), _by_place(texts), columns)
    return write_page(open_run(run), contents, embeddings, out, title, most, thumbnail)


def open_run(run: str | Path) -> Dynamics:
    """What was recorded of a run that is to be explored; see :func:`explore` for what is raised."""
    import_bokeh()
    return read_dynamics(run)


def write_page(
    dynamics: Dynamics,
    contents: Contents,
    embeddings: Any = None,
    out: str | Path | None = None,
    title: str = "",
    most: int = MOST,
    thumbnail: int = LARGEST,
) -> Path:
    """Write the page of a run whose contents are known; see :func:`explore`."""
    if most < 1:
        raise ValueError(f"most is {most}; a page shows at least 1 sample")
    if not 8 <= thumbnail <= 256:
        raise ValueError(f"thumbnail is {thumbnail}; it must be between 8 and 256 pixels")
    recorded = dynamics.folder.resolve()
    folder = recorded.parent
    own = "" if recorded.name == "dynamics" else f"-{recorded.name}"
    page = Path(out) if out is not None else folder / f"explore{own}.html"
    if page.is_dir():
        raise ValueError(f"{page} is a folder; give the name of a file, such as {page / 'explore.html'}")
    make_writable(page.parent)
    contents.check(dynamics.num_samples, str(dynamics.folder))
    signals = dynamics.signals()
    lists = make_lists(signals)
    pairs, similarities = _duplicates(embeddings, dynamics.num_samples)
    if len(pairs):
        lists.append(_list_of(pairs))
    shown = choose_shown(dynamics.num_samples, most, lists)
    told = Facts(shown, dynamics.num_samples)
    told.add_signals(signals)
    for each in lists:
        told.add_list(each)
    told.add_pairs(pairs, similarities)
    told.add_contents(contents)
    thumbnails = None
    if contents.images is not None:
        thumbnails = make_thumbnails(contents.images, shown, thumbnail)
        told.add_thumbnails(thumbnails)
    histories = read_histories(dynamics, shown)
    told.add_histories(histories)
    head = {
        "title": title or folder.name,
        "figures": _figures(dynamics, signals, lists, contents),
        "notes": _notes(shown, signals, contents, thumbnails, histories),
    }
    sheets = thumbnails.sheets if thumbnails else ()
    return write_explorer(page, head, told.facts, told.arrays, sheets)


def _by_place(values: Any) -> Any:
    """What counts from 0: a series of pandas counts by an index, which a part of a table keeps."""
    return values.to_numpy() if hasattr(values, "iloc") else values


def _column(table: Any, name: Any) -> np.ndarray:
    values = np.asarray(table[name])
    if values.ndim != 1:
        raise ValueError(
            f"table[{name!r}] has the shape {values.shape}; give one value for each sample, (N,), and "
            "each column a name of its own"
        )
    return values


def _numbered(labels: Any, classes: Sequence[str]) -> tuple[np.ndarray | None, Sequence[str]]:
    """Labels as numbers, int64 (N,), and the names of their classes."""
    if isinstance(classes, Mapping):
        raise ValueError(f"classes is {classes!r}; give a list of names, in the order of their numbers")
    names = tuple(map(str, classes))
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise ValueError(f"classes has {twice[0]!r} more than once; give each class a name of its own")
    if labels is None:
        return None, names
    values = labels.cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if values.ndim != 1:
        raise ValueError(f"labels have the shape {values.shape}; give one class for each sample, (N,)")
    if values.dtype == object and all(isinstance(each, int | np.integer) for each in values):
        values = values.astype(np.int64)  # as a column of a table may hold them
    if values.dtype.kind in "iub" or _are_whole_floats(values):
        values = values.astype(np.int64)
        return values, names or tuple(map(str, range(int(values.max(initial=-1)) + 1)))
    if values.dtype.kind not in "USOT":
        raise ValueError(
            f"labels are of type {values.dtype}; give whole numbers or names of classes, or leave them "
            "out"
        )
    words = values.astype(str)
    names = names or tuple(np.unique(words).tolist())
    unknown = sorted(set(words.tolist()) - set(names))
    if unknown:
        raise ValueError(
            f"labels has {unknown[0]!r}, which is none of the classes; give all their names"
        )
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[word] for word in words.tolist()], dtype=np.int64), names


def _are_whole_floats(values: np.ndarray) -> bool:
    if values.dtype.kind != "f":
        return False
    return bool((np.isfinite(values) & (values == np.trunc(values))).all())


def _duplicates(embeddings: Any, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    if embeddings is None:
        return np.empty((0, 2), np.int64), np.empty(0, np.float32)
    if isinstance(embeddings, torch.Tensor):
        embeddings = embeddings.detach().float().cpu().numpy()
    return near_duplicates(embeddings, num_samples)


def _list_of(pairs: np.ndarray) -> SampleList:
    """The samples of pairs, each once, those of the closest pair first."""
    members, first = np.unique(pairs, return_index=True)
    meaning = (
        "Nearly the same as the nearest other one, by their embeddings: the closest pairs first, "
        f"{MOST_PAIRS:,} at most."
    )
    return SampleList("duplicates", "Near-duplicates", meaning, "", members[np.argsort(first)])


def _figures(
    dynamics: Dynamics,
    signals: Mapping[str, np.ndarray],
    lists: Sequence[SampleList],
    contents: Contents,
) -> list[tuple[str, str]]:
    """Values and what they are, for the head of the page."""
    trained, left_out = (int(signals[f"times_{what}"].sum()) for what in ("trained", "left_out"))
    names = len(contents.class_names)
    classes = f" of {names:,} classes" if names > 1 else ""
    figures = [
        (f"{dynamics.num_samples:,}", f"samples{classes}"),
        (f"{dynamics.num_epochs:,}", "recorded epochs" if dynamics.num_epochs > 1 else "recorded epoch"),
        (f"{left_out / max(1, trained + left_out):.1%}", "left out of an epoch, on average"),
    ]
    sizes = {each.name: len(each.indices) for each in lists}
    if "aum" in signals:
        below = int((signals["aum"] < 0).sum())
        first = sizes.get("suspects", 0)
        which = "" if first == below else f" (the first {first:,} are listed)"
        figures.append((f"{below:,}", f"for which another class was likelier on average{which}"))
    return figures


def _notes(
    shown: np.ndarray,
    signals: Mapping[str, np.ndarray],
    contents: Contents,
    thumbnails: Thumbnails | None,
    histories: Histories,
) -> list[str]:
    """What a reader must know of what is not on the page."""
    notes = []
    num_samples = len(signals["times_trained"])
    if contents.origin is not None:
        notes.append(
            "A part of the set was trained; samples have their numbers in the whole set, as --subset "
            "reads them."
        )
    if len(shown) < num_samples:
        notes.append(
            f"Of the {num_samples:,} samples the page shows {len(shown):,}: the first of each list, and "
            "others drawn at random."
        )
    never = int((signals["times_trained"][shown] == 0).sum())
    if never:
        notes.append(f"{never:,} samples were never trained: they have no signals, and are on no map.")
    if histories.every > 1:
        notes.append(
            f"The curves of losses have one of every {histories.every:,} recorded epochs; all else is "
            "of all of them."
        )
    if thumbnails and thumbnails.broken:
        number = len(thumbnails.broken)
        images = "1 image does" if number == 1 else f"{number:,} images do"
        notes.append(
            f"{images} not open ({thumbnails.reason}); a crossed box stands in the place of each."
        )
    return notes
