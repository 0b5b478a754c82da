"""Which package of Lightning is taken, and which versions."""

import pytest

from helpers import error_without, launch

pytest.importorskip("lightning")

import lightning.pytorch as pl

from helpers.lightning import MARKS
from infobatch.integrations.lightning import PruningCallback
from infobatch.integrations.lightning.installed import check_version

pytestmark = MARKS


@pytest.mark.parametrize("version", ["1.9.5", "2.4.0", "3.0.0rc1"])
def test_other_versions_are_refused(version):
    with pytest.raises(ImportError, match=f"lightning is {version}; .* with 2.5 to 2.6"):
        check_version(version)


def test_without_lightning_the_extra_is_named(tmp_path):
    missing = ["lightning.pytorch", "pytorch_lightning"]
    said = error_without(missing, "infobatch.integrations.lightning", tmp_path)
    assert "pip install 'infobatch[lightning]'" in said


def test_the_package_in_use_is_taken(tmp_path):
    assert issubclass(PruningCallback, pl.Callback)
    pytest.importorskip("pytorch_lightning")
    program = """
        import sys

        import pytorch_lightning as pl
        import torch
        from infobatch.integrations.lightning import PruningCallback

        class Module(pl.LightningModule):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(1, 1)

            def training_step(self, batch, batch_idx):
                indices, values = batch
                return self.pruner.update(self.layer(values[:, None]).flatten().exp(), indices)

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), 0.1)

        callback = PruningCallback()
        assert isinstance(callback, pl.Callback)
        options = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar"], False)
        trainer = pl.Trainer(max_epochs=1, accelerator="cpu", callbacks=[callback], **options)
        trainer.fit(Module(), callback.loader(torch.arange(8.0), 4))
        torch.save(callback.pruner.report().num_recorded, f"{sys.argv[3]}/0.pt")
    """
    assert launch(program, 1, tmp_path) == [8]
