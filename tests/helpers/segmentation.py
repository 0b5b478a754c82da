"""Small pictures with the class of each pixel, as parquet files of the hub's layout."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.images import encoded
from infobatch.lab.config.task_options import SegmentationOptions
from infobatch.lab.config.train import TrainConfig

UNLABELLED = 11

QUICK = TrainConfig(
    task="segmentation",
    data="camvid",
    model="segformer-tiny",
    epochs=4,
    batch_size=6,
    lr=3e-3,
    optimizer="adamw",
    label_smoothing=0.0,
    device="cpu",
    policy="infobatch",
    segmentation=SegmentationOptions(crop=32, min_scale=0.8, max_scale=1.2),
)


def picture(i, size=(44, 36)):
    """A box of class 1 + i % 4 on class 0, each of its own grey, and an unlabelled row on top."""
    width, height = size
    classes = np.zeros((height, width), np.uint8)
    classes[10:30, 5 + i % 9 : 25 + i % 9] = 1 + i % 4
    pixels = np.repeat(50 * classes[:, :, None], 3, axis=2).astype(np.uint8)
    classes[0] = UNLABELLED
    return pixels, classes


def rows(count, size=(44, 36)):
    pairs = [picture(i, size) for i in range(count)]
    return [(encoded(pixels), encoded(classes)) for pixels, classes in pairs]


def write(path, pairs):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        name: [None if value is None else {"bytes": value, "path": ""} for value in values]
        for name, values in zip(("image", "annotation"), zip(*pairs, strict=True), strict=True)
    }
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({name: pa.array(c, struct) for name, c in columns.items()}), path)


def camvid(folder):
    """A folder with 20 training images and 6 test images, of 44x36 pixels."""
    write(folder / "camvid" / "train.parquet", rows(20))
    write(folder / "camvid" / "test.parquet", rows(6))
    return folder
