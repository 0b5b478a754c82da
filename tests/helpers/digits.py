"""Short runs on digits: 1,400 images to train on, and 397 to test on."""

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.train import train

QUICK = TrainConfig(data="digits", epochs=4, batch_size=128, device="cpu", policy="infobatch")

LOOKING = TrainConfig(
    data="digits",
    epochs=3,
    batch_size=128,
    device="cpu",
    policy="infobatch",
    prior_scores="pass",
    warmup_epochs=0,
)

PROBED = TrainConfig(
    data="digits",
    epochs=5,
    batch_size=128,
    device="cpu",
    policy="infobatch",
    delta=1,
    target=0.3,
    train_samples=600,
)

SCORED = TrainConfig(
    data="digits", epochs=4, device="cpu", policy="infobatch", train_samples=150, delta=1, recipe="r"
)
STATIC = ("forgetting", "el2n", "grand")


def trained(config, data, path):
    folder = RunFolder(path)
    folder.create(config)
    part = data.split(0, config.train_samples)
    train(config, part, folder)
    return folder
