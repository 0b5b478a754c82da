"""A classifier made of a run of --task mae: the run's encoder and a new linear layer."""

from __future__ import annotations

from math import isqrt
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from infobatch.lab.config.task_options import MaskedOptions
from infobatch.lab.models.masked import Shape, masked_config
from infobatch.lab.models.packages import read_config


class EncoderClassifier(nn.Module):
    """A vision transformer and a linear layer on the mean of its patches' tokens (He et al., A.1)."""

    def __init__(self, encoder: nn.Module, width: int, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)  # as in their code
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.encoder(images).last_hidden_state
        logits: Tensor = self.head(tokens[:, 1:].mean(1))
        return logits


def make_pretrained(name: str, num_classes: int) -> nn.Module:
    """Make a classifier of the finished run in the folder ``name``."""
    from transformers import ViTConfig, ViTModel

    values, state = _read(name)
    options = MaskedOptions(**values["mae"])
    config = masked_config(values["model"], _shape(state), options).to_dict()
    kept = {key: config[key] for key in ViTConfig().to_dict() if key in config and key != "model_type"}
    encoder = ViTModel(ViTConfig(**kept), add_pooling_layer=False)
    encoder.load_state_dict(
        {key.removeprefix("vit."): tensor for key, tensor in state.items() if key.startswith("vit.")}
    )
    return EncoderClassifier(encoder, encoder.config.hidden_size, num_classes)


def check_pretrained(name: str) -> None:
    """Refuse a folder that holds no finished run of --task mae."""
    _read(name)


def check_pretrained_fits(name: str, shape: Shape) -> None:
    """Refuse images of another shape than the run was trained on."""
    trained = _shape(_read(name)[1])
    if trained != shape:
        raise ValueError(
            f"--model {name} was trained on images of {trained[1]}x{trained[2]} pixels and {trained[0]} "
            f"channels, and the data's are of {shape[1]}x{shape[2]} and {shape[0]}; take data like those"
        )


def _read(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The options of a run and the weights that it ended with."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    values = read_config(name, "the folder of a run of --task mae")
    task = values.get("task", "classification")
    if task != "mae":
        raise ValueError(f"--model {name} is a run of --task {task}; give one of --task mae")
    try:
        return values, load_file(Path(name) / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"--model {name} holds no finished run (model.safetensors: {error}); finish it with "
            f"`infobatch train --out {name} --resume`"
        ) from error


def _shape(state: dict[str, Tensor]) -> Shape:
    """The shape of the images that an encoder with these weights takes."""
    _, channels, patch, _ = state["vit.embeddings.patch_embeddings.projection.weight"].shape
    side = patch * isqrt(state["vit.embeddings.position_embeddings"].shape[1] - 1)
    return channels, side, side
