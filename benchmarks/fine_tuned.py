"""A network that was trained on Fashion-MNIST, to be fine-tuned on handwritten digits.

    infobatch train --data fashion-mnist --data-dir DIR --policy infobatch --epochs 5 --out PRETRAINED
    INFOBATCH_PRETRAINED=PRETRAINED infobatch compare --data mnist5k \
        --model benchmarks/fine_tuned.py:make --noise 1.1 --epochs 10 --seeds 8 --out FOLDER

The environment variable names the folder of the finished run. Its classifier is replaced by a new one.
"""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from infobatch.lab.models.small_cnn import small_cnn

VARIABLE = "INFOBATCH_PRETRAINED"
HEAD = "13."
"""Where the names of the classifier's weights begin."""


def make(num_classes: int, num_channels: int) -> nn.Module:
    """Make the network, with the weights of the run in all layers but the last.

    Args:
        num_classes: The classes of the data that it is tuned on.
        num_channels: The channels of its images.
    """
    folder = os.environ.get(VARIABLE)
    if folder is None:
        raise ValueError(f"{VARIABLE} is not set; give it the folder of a run of small-cnn")
    model = small_cnn(num_channels, num_classes)
    trained = load_file(Path(folder) / "model.safetensors")
    body = {name: values for name, values in trained.items() if not name.startswith(HEAD)}
    missing = model.load_state_dict(body, strict=False).missing_keys
    assert all(name.startswith(HEAD) for name in missing), missing
    return model
