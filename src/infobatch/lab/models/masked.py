"""Masked autoencoders: transformers' ViTMAE (He et al., CVPR 2022), sized by the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infobatch.lab.config.task_options import MaskedOptions
from infobatch.lab.models.packages import import_for, read_config
from infobatch.lab.names import choose

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""


@dataclass(frozen=True)
class Size:
    """The size of a masked autoencoder.

    Args:
        patch: The side of a patch, in pixels, unless options give another.
        width: The encoder's width, a multiple of 4.
        depth: The encoder's layers.
        heads: The encoder's attention heads.
        decoder_width: The decoder's width, a multiple of 4.
        decoder_depth: The decoder's layers.
        decoder_heads: The decoder's attention heads.
    """

    patch: int
    width: int
    depth: int
    heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int


SIZES = {
    "mae-tiny": Size(4, 96, 3, 3, 32, 1, 2),  # for 32 pixels, on a CPU
    "mae-small": Size(8, 192, 12, 3, 128, 2, 4),  # ViT-Ti, for 64
    "mae-base": Size(16, 768, 12, 12, 512, 8, 16),  # He et al.'s ViT-B, and their decoder
}


def make_masked(name: str, shape: Shape, options: MaskedOptions) -> nn.Module:
    """Make a new masked autoencoder, or load a saved one.

    Args:
        name: One of :data:`SIZES`, or a folder that transformers saved such a model to. New weights are
            drawn from PyTorch's global generator.
        shape: The images' channels, height and width.
        options: The share of masked patches, their size and the loss.

    Returns:
        A ``ViTMAEForPreTraining`` of transformers'.
    """
    model_class = _transformers().ViTMAEForPreTraining
    if name in SIZES:
        model: nn.Module = model_class(masked_config(name, shape, options))
        _initialize(model)
        return model
    changed = {"mask_ratio": options.mask_ratio, "norm_pix_loss": options.norm_pix_loss}
    saved: nn.Module = model_class.from_pretrained(
        name, local_files_only=True, dtype=torch.float32, **changed
    )
    return saved


def masked_config(name: str, shape: Shape, options: MaskedOptions) -> Any:
    """The ``ViTMAEConfig`` of a new model for images of that shape, or of a saved one."""
    config_class = _transformers().ViTMAEConfig
    if name not in SIZES:
        return config_class.from_pretrained(name, local_files_only=True)
    size = SIZES[name]
    return config_class(
        image_size=shape[1],
        num_channels=shape[0],
        patch_size=options.patch or size.patch,
        hidden_size=size.width,
        num_hidden_layers=size.depth,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.width,
        decoder_hidden_size=size.decoder_width,
        decoder_num_hidden_layers=size.decoder_depth,
        decoder_num_attention_heads=size.decoder_heads,
        decoder_intermediate_size=4 * size.decoder_width,
        mask_ratio=options.mask_ratio,
        norm_pix_loss=options.norm_pix_loss,
    )


def check_masked(name: str) -> None:
    """Refuse a model that cannot be made.

    Args:
        name: See :func:`make_masked`.

    Raises:
        ValueError: If there is no such model, or the folder holds another kind of model.
        ImportError: If transformers is not installed.
    """
    _transformers()
    if name in SIZES or not _is_folder(name):
        choose("model of --task mae", name, SIZES)
        return
    model_type = _saved(name).get("model_type")
    if model_type != "vit_mae":
        raise ValueError(
            f"--model {name} holds a model of type {model_type!r} of transformers; --task mae needs "
            "'vit_mae'"
        )


def check_masked_fits(name: str, options: MaskedOptions, shape: Shape) -> None:
    """Refuse a model, or options, that do not fit the images.

    Args:
        name: See :func:`make_masked`.
        options: The size of the patches and the share that is masked.
        shape: The images' channels, height and width.

    Raises:
        ValueError: If the images are not square or of another shape than a saved model's, if patches do
            not divide them, or if none or all of the patches would be masked.
    """
    channels, height, width = shape
    if height != width:
        raise ValueError(f"the images are {height}x{width} pixels; --task mae needs square ones")
    patch = options.patch or (SIZES[name].patch if name in SIZES else 0)
    if name not in SIZES:
        saved = _saved(name)
        of_model = (saved["num_channels"], saved["image_size"], saved["image_size"])
        if of_model != shape:
            raise ValueError(
                f"--model {name} is for images of {_described(of_model)}, and the data's are of "
                f"{_described(shape)}; take other data, or a model that is made for them, such as "
                "mae-tiny"
            )
        if patch not in (0, saved["patch_size"]):
            raise ValueError(
                f"--mae.patch is {patch}, and --model {name} has patches of {saved['patch_size']} "
                "pixels; leave it out"
            )
        patch = saved["patch_size"]
    if height % patch:
        sides = [side for side in range(1, height) if height % side == 0]
        raise ValueError(
            f"patches of {patch} pixels do not divide images of {height}x{width}; give --mae.patch, one "
            f"of {', '.join(map(str, sides))}"
        )
    if options.norm_pix_loss and patch**2 * channels == 1:
        raise ValueError("--mae.patch is 1, and nothing is left of one pixel normalized; raise it")
    _check_mask(options.mask_ratio, (height // patch) ** 2)


def _check_mask(ratio: float, num_patches: int) -> None:
    """Refuse a share that masks no patch of an image, or all."""
    num_seen = int(num_patches * (1 - ratio))  # as the model counts
    if 0 < num_seen < num_patches:
        return
    which = "no patch" if num_seen else "every patch"
    side = "raise" if num_seen else "lower"
    raise ValueError(
        f"--mae.mask-ratio is {ratio:g}, which masks {which} of an image's {num_patches}; {side} it, or "
        "lower --mae.patch"
    )


def _described(shape: Shape) -> str:
    return f"{shape[1]}x{shape[2]} pixels and {shape[0]} channels"


def _is_folder(name: str) -> bool:
    return "/" in name or Path(name).is_dir()


def _saved(name: str) -> dict[str, Any]:
    """A saved model's configuration; transformers leaves out what has its default."""
    wanted = f"a folder that transformers saved a model to, or {' or '.join(SIZES)}"
    defaults = {"num_channels": 3, "image_size": 224, "patch_size": 16}
    return {**defaults, **read_config(name, wanted)}


# -- What the paper initializes and transformers leaves at zero ------------------------------------


def _initialize(model: Any) -> None:
    """Initialize as He et al. do (appendix A.1 and their code): Xavier, tokens of 0.02, sine positions.

    transformers (5.23) leaves a new model's positions at zero, and does not train them.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    embeddings, decoder = model.vit.embeddings, model.decoder
    projection = embeddings.patch_embeddings.projection
    nn.init.xavier_uniform_(projection.weight.view(projection.out_channels, -1))
    nn.init.zeros_(projection.bias)
    nn.init.normal_(embeddings.cls_token, std=0.02)
    nn.init.normal_(decoder.mask_token, std=0.02)
    side = model.config.image_size // model.config.patch_size
    with torch.no_grad():
        for positions in (embeddings.position_embeddings, decoder.decoder_pos_embed):
            positions.copy_(sine_positions(side, positions.shape[-1]))


def sine_positions(side: int, width: int) -> Tensor:
    """Sines and cosines of each patch's column and row, (side² + 1, width), after a row of zeros.

    The width is a multiple of 4. Columns come first, as in He et al.'s code.
    """
    rates = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [places.flatten()[:, None] * rates for places in (columns, rows)]
    table = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, width), table.float()])


def _transformers() -> Any:
    return import_for("--task mae", "transformers")
