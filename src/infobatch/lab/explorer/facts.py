"""What the page's scripts are told: facts as JSON, and numbers as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infobatch.dynamics import SIGNALS
from infobatch.lab.explorer.contents import Contents
from infobatch.lab.explorer.histories import Histories
from infobatch.lab.explorer.lists import SampleList
from infobatch.lab.explorer.thumbnails import ACROSS, Thumbnails

LONGEST_TEXT = 1000
"""How much of a text a page holds, in characters."""


def choose_shown(num_samples: int, most: int, lists: Sequence[SampleList]) -> np.ndarray:
    """Choose the samples that a page shows.

    Args:
        num_samples: N.
        most: How many it shows at most.
        lists: The lists; of a larger set, the first of each fill up to half of the page.

    Returns:
        The samples in rising order, int64 (n,); others are drawn at random, the same each time.
    """
    if num_samples <= most:
        return np.arange(num_samples)
    chosen = np.zeros(num_samples, dtype=bool)
    for each in lists:
        chosen[each.indices[: most // (2 * len(lists))]] = True
    others = np.flatnonzero(~chosen)
    drawn = np.random.default_rng(0).choice(others, most - int(chosen.sum()), replace=False)
    chosen[drawn] = True
    return np.flatnonzero(chosen)


class Facts:
    """Gathers what is told of the samples of a page.

    Args:
        shown: The samples, in rising order, int64 (n,).
        num_samples: N, the samples of the run.

    Attributes:
        facts: What is told as JSON.
        arrays: What is told in numbers.
    """

    def __init__(self, shown: np.ndarray, num_samples: int) -> None:
        self._shown = shown
        self.facts: dict[str, Any] = {"numSamples": num_samples, "numShown": len(shown), "lists": []}
        self.arrays: dict[str, np.ndarray] = {"index": shown.astype(np.int32)}

    def add_signals(self, signals: Mapping[str, np.ndarray]) -> None:
        """Tell the columns (N,) of the table of signals."""
        named = [name for name in signals if name != "index"]
        self.facts["signals"] = [
            {
                "name": name,
                "meaning": SIGNALS[name],
                "whole": bool(np.issubdtype(signals[name].dtype, np.integer)),
            }
            for name in named
        ]
        for name in named:
            self.arrays[f"signal-{name}"] = signals[name][self._shown].astype(np.float32)

    def add_list(self, each: SampleList) -> None:
        """Tell those samples of a list that are shown."""
        told = {"name": each.name, "title": each.title, "meaning": each.meaning, "by": each.by}
        self.facts["lists"].append(told)
        self.arrays[f"list-{each.name}"] = self._places(each.indices)

    def add_pairs(self, pairs: np.ndarray, similarities: np.ndarray) -> None:
        """Tell near-duplicates (P, 2), where both are shown, and their similarities (P,)."""
        both = np.isin(pairs, self._shown).all(axis=1)
        self.arrays["pairs"] = self._places(pairs[both].ravel())
        self.arrays["similarities"] = similarities[both].astype(np.float32)

    def add_histories(self, histories: Histories) -> None:
        """Tell the losses of each epoch, of their bits the upper 16: recorded ones have no others."""
        self.facts["epochs"] = histories.epochs
        self.facts["everyEpoch"] = histories.every
        self.arrays["losses"] = (histories.losses.view(np.uint32) >> 16).astype(np.uint16)

    def add_contents(self, contents: Contents) -> None:
        """Tell labels, texts and rows, and what samples are called; pictures come apart."""
        if contents.origin is not None:
            self.arrays["origin"] = contents.origin.astype(np.int32)
            self.arrays["index"] = self.arrays["origin"][self._shown]
        self.facts["classes"] = [str(name) for name in contents.class_names]
        if contents.labels is not None:
            self.arrays["labels"] = contents.labels[self._shown].astype(np.int32)
        if contents.texts is not None:
            texts = contents.texts
            self.facts["texts"] = [_cut(str(texts[index])) for index in self._shown.tolist()]
        if contents.table is not None:
            columns = (self._column(*each) for each in enumerate(contents.table.items()))
            self.facts["table"] = list(columns)

    def add_thumbnails(self, thumbnails: Thumbnails) -> None:
        """Tell where each picture is on the sheets."""
        self.facts["pictures"] = {
            "side": thumbnails.side,
            "pitch": thumbnails.pitch,
            "across": ACROSS,
            "broken": list(thumbnails.broken),
        }

    def _column(self, place: int, named: tuple[str, Any]) -> dict[str, Any]:
        name, values = named
        shown = np.asarray(values)[self._shown]
        if shown.dtype in (np.float16, np.float32):
            shown = shown.astype(str).astype(np.float64)  # without the digits that float64 would add
        if _fits_float64(shown):
            self.arrays[f"column-{place}"] = shown.astype(np.float64)
            return {"name": str(name)}
        words, codes = np.unique([str(value) for value in shown], return_inverse=True)
        self.arrays[f"column-{place}"] = codes.astype(np.float64)
        return {"name": str(name), "words": [_cut(word) for word in words.tolist()]}

    def _places(self, indices: np.ndarray) -> np.ndarray:
        """Where those of the samples that are shown are on the page, in the samples' order, int32."""
        places = np.searchsorted(self._shown, indices)
        places[places == len(self._shown)] = 0
        found: np.ndarray = places[self._shown[places] == indices].astype(np.int32)
        return found


def _fits_float64(values: np.ndarray) -> bool:
    """Whether values are numbers that a browser has to the last digit; it has no greater whole ones."""
    if values.dtype.kind in "iu":
        return bool(values.min(initial=0) >= -(2**53) and values.max(initial=0) <= 2**53)
    return values.dtype.kind in "bf"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
