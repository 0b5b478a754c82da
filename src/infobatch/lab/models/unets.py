"""U-Nets of diffusion models: diffusers' UNet2DModel, new by name or loaded from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from infobatch.lab.models.packages import import_for, read_config
from infobatch.lab.names import choose


def _unet(channels: tuple[int, ...], layers: int, attention: int = -1, **others: Any) -> dict[str, Any]:
    """A configuration: the channels of each level, and the number of the level that has attention."""
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
    """Whether the name of a U-Net is its folder."""
    return name not in UNETS and Path(name).is_dir()


def unet_config(name: str) -> dict[str, Any]:
    """The configuration of a U-Net.

    Args:
        name: One of :data:`UNETS`, or the folder of a saved one.

    Returns:
        The options of diffusers' UNet2DModel that the name decides.

    Raises:
        ValueError: If there is no such U-Net.
    """
    if not is_folder(name):
        return choose("model", name, UNETS)
    config = read_config(name, "a folder that UNet2DModel.save_pretrained wrote")
    class_name = config.get("_class_name")
    if class_name != "UNet2DModel":
        raise ValueError(
            f"--model is {name}, which holds a {class_name}; --task diffusion takes a UNet2DModel"
        )
    return config


def check_unet(name: str, num_channels: int, side: int, num_classes: int | None) -> None:
    """Refuse a U-Net that cannot be made, or that does not fit the images.

    Args:
        name: See :func:`unet_config`.
        num_channels: The images' channels.
        side: The images' height and width, in pixels.
        num_classes: The classes that condition the U-Net; None where none does.

    Raises:
        ValueError: If there is no such U-Net, or it does not fit.
        ImportError: If diffusers is not installed.
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
    """Make a new U-Net, or load the one in a folder.

    Args:
        name: See :func:`unet_config`. New weights are drawn from PyTorch's global generator.
        num_channels: The images' channels.
        side: The images' height and width, in pixels.
        num_classes: The classes that condition the U-Net; None where none does.
        dropout: The share of a new U-Net's activations that are dropped.

    Returns:
        A UNet2DModel of diffusers', in training mode.
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
    return import_for("--task diffusion", "diffusers").UNet2DModel
