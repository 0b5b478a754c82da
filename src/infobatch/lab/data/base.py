"""What every data set has, and what every source of one does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Data:
    """A data set with its splits.

    Args:
        name: The name that the set is loaded by.
        train: The training samples, which have a length.
        test: The test samples, of the same kind.
        class_names: The names of the classes, in the order of their numbers; empty without classes.
        origin: Of a part of a set the index that each training sample has in the whole, int64 (N,); None
            for a whole set.
    """

    name: str
    train: Any
    test: Any
    class_names: tuple[str, ...]
    origin: Tensor | None = field(default=None, kw_only=True)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image as the model sees it."""
        raise NotImplementedError(f"{self.name} has no images of one size")

    @property
    def train_labels(self) -> Tensor | None:
        """The class of each training sample, int64 (N,); None where it has none, or several."""
        return None

    @property
    def class_members(self) -> tuple[Tensor, Tensor] | None:
        """Pairs of a training sample and a class that it has, int64 (M,) each; None without classes."""
        labels = self.train_labels
        if labels is None:
            return None
        return torch.arange(len(labels)), labels.cpu()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about the set that a user reads before anything is trained."""
        return ()

    def with_rare_classes(self, share: float) -> Tensor:
        """Which training samples have a rare class.

        Args:
            share: A class is rare if less than this share of the training samples have it, in (0, 1].

        Returns:
            True for each sample that has one, bool (N,).

        Raises:
            ValueError: If none of the samples has a rare class, or all of them have.
        """
        assert self.class_members is not None
        indices, classes = self.class_members
        num_samples = len(self.train)
        counts = torch.bincount(classes, minlength=self.num_classes)
        rare = torch.zeros(num_samples, dtype=torch.bool)
        rare[indices[counts[classes] < share * num_samples]] = True
        if not rare.any() or rare.all():
            whom, remedy = ("all", "lower") if rare.all() else ("none", "raise")
            least = float(counts[counts > 0].min() / num_samples)
            raise ValueError(
                f"--segmentation.protect is {share:g}, by which {whom} of the {num_samples:,} training "
                f"images of {self.name} would be kept in every epoch (its rarest class is in "
                f"{least:.1%} of them); {remedy} it, or leave it out"
            )
        return rare

    def split(self, held_out: float, num_train: int, subset: Tensor | None = None) -> Data:
        """Hold out a random part of the training set as the test set, and train on a part of the rest.

        Args:
            held_out: The share that is held out, in [0, 1); 0 keeps the test set.
            num_train: How many samples to train on; 0 for all that are left.
            subset: Of which training samples, int64 (n,), those that are left are trained on; by default
                of all. What is held out does not depend on it.

        Returns:
            The same parts for the same numbers.

        Raises:
            ValueError: If no sample is held out, or none is left, or fewer than ``num_train``.
        """
        order = _in_random_order(torch.arange(len(self.train)))
        num_held = round(held_out * len(order))
        if held_out and not num_held:
            raise ValueError(
                f"--held-out is {held_out:g}, which is none of the {len(order):,} training samples of "
                f"{self.name}; raise it"
            )
        held, left = order[:num_held], order[num_held:]
        if subset is not None:
            left = _in_random_order(subset[~torch.isin(subset, held)])
        if not len(left):
            whose = "" if subset is None else " that --subset names"
            raise ValueError(
                f"--held-out is {held_out:g}, which leaves none of the samples of {self.name}{whose} to "
                "train on; lower it"
            )
        if num_train > len(left):
            raise ValueError(
                f"--train-samples is {num_train:,}, but {self.name} has only {len(left):,} to train on; "
                "lower it"
            )
        train = left[: num_train or None].sort().values
        return self.subset(train, held.sort().values if num_held else None)

    def long_tailed(self, factor: float) -> Data:
        """Train on fewer samples of each class than of the one before it.

        Args:
            factor: How many times rarer the last class becomes than it was, at least 1. Of class k of C
                a share of ``factor`` ** (-k / (C - 1)) is kept, at least one sample.

        Returns:
            The set with a random part of the training samples of each class; the same part for the same
            factor.

        Raises:
            ValueError: If the samples have no single class.

        Source: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, 2019.
        """
        labels = self.train_labels
        if labels is None or self.num_classes < 2:
            raise ValueError(
                f"--imbalance is {factor:g}, and the samples of {self.name} have no single class of "
                "several, by which some could be made rare; leave it out"
            )
        generator = torch.Generator().manual_seed(0)
        kept = []
        for number in range(self.num_classes):
            members = (labels.cpu() == number).nonzero().flatten()
            share = factor ** (-number / (self.num_classes - 1))
            order = torch.randperm(len(members), generator=generator)
            kept.append(members[order[: max(1, round(share * len(members)))]])
        return self.subset(torch.cat(kept).sort().values)

    def subset(self, train: Tensor, test: Tensor | None = None) -> Data:
        """Take some of the training samples to train on and, if given, others to test on.

        Args:
            train: Indices into the training set, int64 (n,).
            test: Indices into the training set, int64 (m,); None keeps the test set.

        Returns:
            The set with these samples alone.
        """
        tested = self.test if test is None else self._choose(test)
        return replace(self, train=self._choose(train), test=tested, origin=self.origin_of(train))

    def origin_of(self, train: Tensor) -> Tensor:
        """The indices in the whole set of some of the training samples.

        Args:
            train: Indices into the training set, int64 (n,).
        """
        return train if self.origin is None else self.origin[train]

    def _choose(self, indices: Tensor) -> Any:
        """Some of the training samples."""
        return self.train.subset(indices)


def _in_random_order(indices: Tensor) -> Tensor:
    """The indices in an order that is always the same for as many."""
    return indices[torch.randperm(len(indices), generator=torch.Generator().manual_seed(0))]


class DataSource(Protocol):
    """Where a data set lies and how it is read."""

    @property
    def name(self) -> str: ...

    @property
    def download(self) -> str:
        """The size of its download, and what else it takes; empty where there is none."""
        ...

    def __call__(self, *args: Any, **options: Any) -> Data:
        """Read the set from a local folder, a Path, or download it where that is None."""
        ...


AnySource = TypeVar("AnySource", bound=DataSource)


def by_name(*sources: AnySource) -> dict[str, AnySource]:
    """The sources by the names of their sets."""
    return {source.name: source for source in sources}
