"""How a data set reaches the device: from memory there, or through loader processes."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, default_collate

from infobatch.distributed import Replicas
from infobatch.lab.data.augment import Augment
from infobatch.lab.data.base import Data
from infobatch.lab.data.images import ImageData, Normalize
from infobatch.lab.data.streamed import SMALLEST_CROP, PlainImages, StreamedData, TrainImages
from infobatch.lab.interrupts import outlive_signals

Batch = tuple[Tensor, Tensor]
"""``pixels`` uint8 (B, C, H, W) and ``labels`` int64 (B,), on the device."""


def workers_of(typed: int | None) -> int:
    """Count the loader processes for data that is decoded as it is read.

    Args:
        typed: What ``--workers`` says; None for as many as there are cores, which the ranks on this
            machine share.
    """
    if typed is not None:
        return typed
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def loader_options(num_workers: int, device: torch.device) -> dict[str, Any]:
    """The options that every DataLoader of the lab has.

    Args:
        num_workers: Loader processes; 0 loads in the main process.
        device: Where the batches go.

    Returns:
        Keyword arguments of a DataLoader.
    """
    return {
        "num_workers": num_workers,
        "pin_memory": device.type == "cuda",
        "worker_init_fn": outlive_signals,
    }


class Feed(ABC):
    """What a loader reads, and how its batches reach the device.

    ``dataset`` is what the loader indexes, and ``collate`` its collate function.
    """

    dataset: Any
    collate: Callable[[list[Any]], Any]
    num_workers = 0
    """The loader processes that read it, where it is decoded as it is read."""
    holds_all = False
    """Whether the data is held on the device, and a batch is the indices of its samples, int64 (B,)."""

    def begin(self, epoch: int) -> None:  # noqa: B027 - not all augment
        """Decide the epoch's augmentation.

        Args:
            epoch: The epoch's number.
        """

    @abstractmethod
    def __call__(self, batch: Any) -> tuple[Tensor, ...]:
        """Augment a batch and bring it to the device.

        Args:
            batch: What the loader gives.

        Returns:
            Inputs and labels, on the device.
        """

    def first(self, num_samples: int) -> Any:
        """Make a batch of the first training samples.

        Args:
            num_samples: How many; all, if there are fewer.

        Returns:
            What the loader would give.
        """
        return self.collate([self.dataset[i] for i in range(min(num_samples, len(self.dataset)))])


class ImageFeed(Feed):
    """A feed of images, to train and to test on.

    ``normalize`` makes of pixels what a network takes.
    """

    normalize: Normalize

    @abstractmethod
    def __call__(self, batch: Any) -> Batch:
        """Augment a batch of training images and bring it to the device.

        Args:
            batch: What the loader gives.

        Returns:
            Pixels and labels.
        """

    def images(self, pixels: Tensor) -> Tensor:
        """Normalize images.

        Args:
            pixels: uint8 (B, C, H, W).

        Returns:
            What a network takes, float32 (B, C, H, W), channels last.
        """
        return self.normalize(pixels).contiguous(memory_format=torch.channels_last)

    @abstractmethod
    def test_batches(self, replicas: Replicas) -> Iterator[Batch]:
        """Iterate over the test images, each once over all ranks together.

        Args:
            replicas: This process's place among the ranks.

        Returns:
            This rank's batches.
        """

    @abstractmethod
    def plain_batches(self, size: int, replicas: Replicas) -> Iterator[tuple[Tensor, Batch]]:
        """Iterate over the training images without augmentation, each once over all ranks together.

        Args:
            size: The largest batch, B.
            replicas: This process's place among the ranks.

        Returns:
            This rank's batches, each with the indices int64 (B,) of its images, on the host.
        """


class MemoryFeed(ImageFeed):
    """Holds all images on the device as uint8 and augments them there; the loader gives only indices.

    Args:
        data: Images in memory.
        device: Where they are held.
        seed: The run's seed.
        cutout: The side of the square that is blanked in each training image, in pixels; 0 for none.
    """

    TEST_BATCH = 1000
    holds_all = True

    def __init__(self, data: ImageData, device: torch.device, seed: int, cutout: int = 0) -> None:
        self.dataset: Sequence[int] = range(len(data.train))
        self.collate = torch.tensor
        self._data = data.to(device)
        self.normalize = Normalize.of(self._data.train.pixels)
        self._augment = Augment(self._data, seed, cutout, self.normalize.mean_color)

    def begin(self, epoch: int) -> None:
        self._augment.begin(epoch)

    def __call__(self, batch: Tensor) -> Batch:
        indices = batch.to(self._data.train.labels.device, non_blocking=True)
        return self._augment(indices), self._data.train.labels[indices]

    def test_batches(self, replicas: Replicas) -> Iterator[Batch]:
        test = self._data.test
        for start in range(replicas.rank, len(test), self.TEST_BATCH * replicas.num_replicas):
            end = start + self.TEST_BATCH * replicas.num_replicas
            part = slice(start, end, replicas.num_replicas)
            yield test.pixels[part], test.labels[part]

    def plain_batches(self, size: int, replicas: Replicas) -> Iterator[tuple[Tensor, Batch]]:
        for indices in _share(len(self.dataset), replicas, size):
            yield indices, self._data.train.gather(indices)


class StreamFeed(ImageFeed):
    """Lets loader processes decode and augment; batches are copied while the device computes.

    Args:
        data: Images that are decoded as they are read.
        device: Where the batches go.
        seed: The run's seed.
        workers: Loader processes; None for as many as there are cores.
        smallest_crop: The least share of its image that a training crop takes.
    """

    TEST_BATCH = 256

    def __init__(
        self,
        data: StreamedData,
        device: torch.device,
        seed: int,
        workers: int | None,
        smallest_crop: float,
    ) -> None:
        self.dataset = TrainImages(data, seed, smallest_crop)
        self.collate = default_collate
        self.normalize = data.normalize.to(device)
        self.num_workers = workers_of(workers)
        self._test, self._train = PlainImages(data.test, data), PlainImages(data.train, data)
        self._device = device

    def begin(self, epoch: int) -> None:
        self.dataset.begin(epoch)

    def __call__(self, batch: Batch) -> Batch:
        return pair_on(self._device, *batch)

    def test_batches(self, replicas: Replicas) -> Iterator[Batch]:
        share = range(replicas.rank, len(self._test), replicas.num_replicas)
        yield from self._batches(Subset(self._test, share), self.TEST_BATCH)

    def plain_batches(self, size: int, replicas: Replicas) -> Iterator[tuple[Tensor, Batch]]:
        share = _share(len(self._train), replicas, size)
        batches = self._batches(Subset(self._train, torch.cat(share).tolist()), size)
        yield from zip(share, batches, strict=True)

    def _batches(self, images: Subset[tuple[Tensor, int]], size: int) -> Iterator[Batch]:
        loader = DataLoader(images, size, **loader_options(self.num_workers, self._device))
        yield from map(self, loader)


def pair_on(device: torch.device, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Bring a batch's inputs and labels to the device, without waiting for it.

    Args:
        device: Where to.
        inputs: What the model takes, on the host.
        labels: Their labels, on the host.
    """
    return inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _share(num_samples: int, replicas: Replicas, size: int) -> tuple[Tensor, ...]:
    """A rank's share of the samples, int64, in batches of up to ``size``."""
    share = torch.arange(replicas.rank, num_samples, replicas.num_replicas)
    return torch.split(share, size)


def make_feed(
    data: Data,
    device: torch.device,
    seed: int,
    workers: int | None,
    smallest_crop: float = SMALLEST_CROP,
    cutout: int = 0,
) -> ImageFeed:
    """Make the feed of a set of images.

    Args:
        data: Images in memory, or images that are decoded as they are read.
        device: Where the batches go.
        seed: The run's seed.
        workers: Loader processes, of which images in memory need none; None for as many as there are
            cores.
        smallest_crop: The least share of its image that a training crop takes, where images are decoded
            as they are read; by default that of ImageNet's usual training.
        cutout: The side of the square that is blanked in each training image held in memory, in pixels;
            by default none.

    Returns:
        The feed.
    """
    if isinstance(data, StreamedData):
        return StreamFeed(data, device, seed, workers, smallest_crop)
    assert isinstance(data, ImageData)
    return MemoryFeed(data, device, seed, cutout)
