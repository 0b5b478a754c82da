"""Small image files: encoded pictures, and parquet files of the hub's layout."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def encoded(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def picture(label, i, kind="JPEG", size=(60, 40)):
    """An encoded picture, whose brightest channel is that of its label."""
    rng = np.random.default_rng([label, i])
    pixels = rng.integers(0, 80, (size[1], size[0], 3), dtype=np.uint8)
    pixels[:, :, label % 3] += 150
    return encoded(pixels, kind)


def write_parquet(path, labels, size=32, column="img", label="label"):
    """Image i is all of (i, 2 i, 3 i)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = [np.full((size, size, 3), (i, 2 * i, 3 * i), np.uint8) for i in range(len(labels))]
    rows = [{"bytes": encoded(each), "path": None} for each in pixels]
    pq.write_table(pa.table({column: rows, label: pa.array(labels, pa.int64())}), path)


def cifar10(folder, train=(0, 1, 9), test=(3,), **options):
    write_parquet(folder / "cifar10" / "train.parquet", train, **options)
    write_parquet(folder / "cifar10" / "test.parquet", test, **options)
    return folder
