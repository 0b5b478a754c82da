"""Each framework gives its own loggers every epoch once, beside those of log_to."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("accelerate")
pytest.importorskip("transformers")
pytest.importorskip("lightning")

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from helpers.lightning import BATCH, MARKS, Module, new_trainer
from helpers.points import SIZE, new_layers, points
from helpers.trainer import VARYING, trainer
from infobatch import DynamicPruner
from infobatch.integrations.accelerate import pruned_loader
from infobatch.integrations.lightning import PruningCallback

pytestmark = MARKS


def shown_by_tensorboard(folder):
    """The events of ``infobatch/saved``, as tensorboard itself reads them."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for file in folder.rglob("events.out.tfevents.*"):
        events = EventAccumulator(str(file))
        events.Reload()
        if "infobatch/saved" in events.Tags()["scalars"]:
            return events.Scalars("infobatch/saved")
    raise AssertionError(f"no file in {folder} has it")


def test_the_trainer_logs_each_epoch(tmp_path):
    logs = []
    made = trainer(tmp_path, pruning=VARYING)
    made.log_to(logs.append, labels=torch.arange(len(made.train_dataset)) % 2)
    made.train()
    history = [each for each in made.state.log_history if "infobatch/saved" in each]
    assert [each["infobatch/epoch"] for each in history] == [0, 1, 2]
    assert history[-1]["infobatch/saved"] == pytest.approx(made.pruner.report().saved)
    assert history[-1]["step"] == made.state.global_step
    assert "infobatch/keep_rate/1" in history[-1]
    assert [log.epoch for log in logs] == [0, 1, 2]
    made.train()
    assert [log.epoch for log in logs] == [0, 1, 2] * 2, "of the next run, too"


def test_the_trainer_reports_to_tensorboard(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    made = trainer(tmp_path, pruning=VARYING, report_to=["tensorboard"])
    made.train()
    path = tmp_path / "board"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = path.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file))
    events.Reload()
    (name,) = (name for name in events.Tags()["scalars"] if name.endswith("infobatch/saved"))
    assert len(events.Scalars(name)) == 3


def test_lightning_logs_each_epoch_to_its_loggers(tmp_path):
    from lightning.pytorch.loggers import TensorBoardLogger

    logs, pruning = [], PruningCallback(**VARYING)
    pruning.log_to(logs.append, labels=torch.arange(SIZE) % 2)
    logger = TensorBoardLogger(tmp_path)
    made = new_trainer(callbacks=[pruning], logger=logger, log_every_n_steps=1)
    made.fit(Module(), pruning.loader(points(), BATCH))
    assert [log.epoch for log in logs] == [0, 1, 2, 3]
    assert "infobatch/keep_rate/1" in logs[0].values
    saved = shown_by_tensorboard(tmp_path)
    assert saved[-1].value == pytest.approx(pruning.pruner.report().saved)
    assert [event.step for event in saved] == sorted(event.step for event in saved)
    assert saved[-1].step == made.global_step


class Noted(GeneralTracker):
    """A tracker that notes what it is given."""

    requires_logging_directory = False

    def __init__(self, name):
        self.name, self.noted = name, []
        super().__init__()

    @property
    def tracker(self):
        return self.noted

    def store_init_configuration(self, values):
        pass

    def log(self, values, step=None, **others):
        self.noted.append((values, step))


def train_accelerated(**options):
    accelerator = Accelerator(cpu=True, **options)
    pruner = DynamicPruner(points(), 4, **VARYING)
    loader = pruned_loader(accelerator, pruner, BATCH)
    accelerator.init_trackers("runs")
    model = accelerator.prepare(new_layers())
    for _ in pruner.epochs():
        for indices, (inputs, labels) in loader:
            losses = F.cross_entropy(model(inputs), labels, reduction="none")
            accelerator.backward(pruner.update(losses, indices))
    accelerator.end_training()
    return pruner


def test_accelerate_logs_each_epoch_to_its_trackers():
    by_epoch, by_clock = Noted("noted"), Noted("wandb")
    pruner = train_accelerated(log_with=[by_epoch, by_clock])
    assert [step for _, step in by_epoch.noted] == [0, 1, 2, 3]
    assert [step for _, step in by_clock.noted] == [None] * 4, "or its later steps would be dropped"
    values, _ = by_clock.noted[-1]
    assert values["infobatch/saved"] == pytest.approx(pruner.report().saved)
    assert values["infobatch/epoch"] == 3


def test_accelerates_tensorboard_shows_it(tmp_path):
    pytest.importorskip("tensorboard")
    pruner = train_accelerated(log_with="tensorboard", project_dir=tmp_path)
    saved = shown_by_tensorboard(tmp_path)
    assert [event.step for event in saved] == [0, 1, 2, 3]
    assert saved[-1].value == pytest.approx(pruner.report().saved)
