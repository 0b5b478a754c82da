"""MosaicML's StreamingDataset: rows are left out before their bytes are decoded."""

import pytest
import torch
from torch.utils.data import DataLoader

from helpers import random_losses
from infobatch import DynamicPruner, InfoBatch
from infobatch.streams.filter import ENTRY, SampleIds, StreamFilter

# Where torchvision does not import, neither does this.
streaming = pytest.importorskip("streaming", exc_type=ImportError)
pytestmark = [pytest.mark.integrations, pytest.mark.filterwarnings("default")]

SIZE, BATCH, EPOCHS = 60, 8, 4


def decode(row):
    return {**row, "image": torch.frombuffer(bytearray(row["image"]), dtype=torch.uint8)}


@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_is_the_selection(workers, tmp_path):
    columns = {"id": "str", "image": "bytes", "label": "int"}
    with streaming.MDSWriter(out=str(tmp_path), columns=columns, size_limit=400) as writer:
        for i in range(SIZE):
            writer.write({"id": f"image-{i}", "image": bytes([i]) * 20, "label": i})
    ids = SampleIds.of(f"image-{i}" for i in range(SIZE))
    pruner = DynamicPruner(ids, EPOCHS, policy=InfoBatch(0.7), delta=1)
    keep = StreamFilter(pruner, "id", BATCH)
    rows = streaming.StreamingDataset(local=str(tmp_path), shuffle=True, batch_size=BATCH)
    options = {"num_workers": workers, "persistent_workers": workers > 0}
    loader = DataLoader(keep(rows).map(decode), BATCH, **options)
    for epoch in pruner.epochs():
        losses, seen = random_losses(SIZE, epoch), []
        for batch in loader:
            indices = keep.indices(batch[ENTRY])
            assert torch.equal(batch["image"][:, 0], batch["label"])
            keep.update(losses[indices], batch[ENTRY])
            seen += indices.tolist()
        assert sorted(seen) == pruner.selection.indices.tolist()
        assert pruner.current.finished
    assert pruner.report().saved > 0.1
