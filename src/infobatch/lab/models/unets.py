"""U-Nets of diffusion models: diffusers' UNet2DModel, by name or from a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from infobatch.lab.names import choose


def _unet(channels: tuple[int, ...], layers: int, attention: int = -1, **others: Any) -> dict[str, Any]:
    """``channels`` of each level; the level numbered ``attention``, if there is one, attends."""
    blocks = ["Attn" * (level == attention) for level in range(len(channels))]
    return {
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": tuple(f"{block}DownBlock2D" for block in blocks),
        "up_block_types": tuple(f"{block}UpBlock2D" for block in reversed(blocks)),
        **others,
    }


UNETS: dict[str, dict[str, Any]] = {
    "unet-tiny": _unet((16, 32, 64), 1, norm_num_groups=8, attention_head_dim=32),
    "unet-small": _unet((64, 128, 128), 2, attention=2, attention_head_dim=64),
    # As google/ddpm-cifar10-32 on the hub, the weights of Ho et al. (2020) for CIFAR-10.
    "ddpm-cifar10": _unet(
        (128, 256, 256, 256),
        2,
        attention=1,
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    ),
}


def is_folder(name: str) -> bool:
    """Whether a model is named by its folder."""
    return name not in UNETS and Path(name).is_dir()


def unet_config(name: str) -> dict[str, Any]:
    """The configuration of a U-Net; ``ValueError`` if there is none of that name."""
    if not is_folder(name):
        return choose("model", name, UNETS)
    path = Path(name) / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        kind = config.get("_class_name")
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(
            f"--model is the folder {name}, whose config.json cannot be read ({error}); give one that "
            "UNet2DModel.save_pretrained wrote"
        ) from error
    if kind != "UNet2DModel":
        raise ValueError(f"{path} is of a {kind}; --task diffusion takes a UNet2DModel")
    return config


def check_unet(name: str, num_channels: int, side: int, num_classes: int | None) -> None:
    """Raise an error for a U-Net that does not fit images of ``side`` pixels, or cannot be made.

    ``num_classes``: None if it is not told an image's class.
    """
    _import_unet()
    config = unet_config(name)
    divisor = 2 ** (len(config["block_out_channels"]) - 1)
    if side % divisor:
        raise ValueError(
            f"--model {name} halves images {divisor.bit_length() - 1} times, and these are {side} "
            f"pixels wide, no multiple of {divisor}; take another model, or other data"
        )
    if not is_folder(name):
        return
    wanted = {"in_channels": num_channels, "out_channels": num_channels, "num_class_embeds": num_classes}
    for option, value in wanted.items():
        if config.get(option) != value:
            raise ValueError(
                f"the model in {name} has {option} {config.get(option)}, and this data and "
                f"--diffusion.class-conditional ask for {value}; take another model, or other options"
            )


def make_unet(
    name: str, num_channels: int, side: int, num_classes: int | None = None, dropout: float = 0.0
) -> nn.Module:
    """A U-Net, freshly initialised from the global generator, or as it lies in a folder.

    ``num_classes``: given where it is told an image's class.
    """
    unet = _import_unet()
    if is_folder(name):
        model: nn.Module = unet.from_pretrained(name, low_cpu_mem_usage=False)
        return model.train()
    model = unet(
        **unet_config(name),
        sample_size=side,
        in_channels=num_channels,
        out_channels=num_channels,
        num_class_embeds=num_classes,
        dropout=dropout,
    )
    return model


def _import_unet() -> Any:
    try:
        from diffusers import UNet2DModel
    except ImportError as error:
        raise ImportError(
            f"--task diffusion needs {error.name}: pip install 'infobatch[tasks]'"
        ) from error
    return UNet2DModel
