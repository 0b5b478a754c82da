"""Masked autoencoders: transformers' ViTMAE (He et al., CVPR 2022), sized by the images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infobatch.lab.config.task_options import MaskedOptions
from infobatch.lab.names import choose

Shape = tuple[int, int, int]
"""Of an image: channels, height, width."""


@dataclass(frozen=True)
class Size:
    """``patch``: its side in pixels, unless options say otherwise; widths are multiples of 4."""

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
    """A freshly initialised ``ViTMAEForPreTraining``, from the global generator, or a saved one.

    ``name``: of :data:`SIZES`, or a folder that transformers saved such a model to.
    """
    kind = _transformers().ViTMAEForPreTraining
    if name in SIZES:
        model: nn.Module = kind(masked_config(name, shape, options))
        _initialize(model)
        return model
    changed = {"mask_ratio": options.mask_ratio, "norm_pix_loss": options.norm_pix_loss}
    saved: nn.Module = kind.from_pretrained(name, local_files_only=True, dtype=torch.float32, **changed)
    return saved


def masked_config(name: str, shape: Shape, options: MaskedOptions) -> Any:
    """The ``ViTMAEConfig`` of a model, for images of that shape where its size is one of ours."""
    kind = _transformers().ViTMAEConfig
    if name not in SIZES:
        return kind.from_pretrained(name, local_files_only=True)
    size = SIZES[name]
    return kind(
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
    """Raise an error for a model that cannot be made."""
    _transformers()
    if name in SIZES or not _is_folder(name):
        choose("model of --task mae", name, SIZES)
        return
    kind = _saved(name).get("model_type")
    if kind != "vit_mae":
        raise ValueError(
            f"--model {name} holds a model of type {kind!r} of transformers; --task mae needs 'vit_mae'"
        )


def check_masked_fits(name: str, options: MaskedOptions, shape: Shape) -> None:
    """Raise ``ValueError`` if the model or its patches do not fit images of that shape."""
    channels, height, width = shape
    if height != width:
        raise ValueError(f"the images are {height}x{width} pixels; --task mae needs square ones")
    patch = options.patch or (SIZES[name].patch if name in SIZES else 0)
    if name not in SIZES:
        saved = _saved(name)
        of_model = (saved["num_channels"], saved["image_size"], saved["image_size"])
        if of_model != shape:
            raise ValueError(
                f"--model {name} is for images of {_written(of_model)}, and the data's are of "
                f"{_written(shape)}; take other data, or a model that is made for them, such as mae-tiny"
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
        raise ValueError("--mae.patch is 1, and nothing is left of one pixel normalised; raise it")
    _check_mask(options.mask_ratio, (height // patch) ** 2)


def _check_mask(ratio: float, num_patches: int) -> None:
    num_seen = int(num_patches * (1 - ratio))  # as the model counts
    if 0 < num_seen < num_patches:
        return
    which = "no patch" if num_seen else "every patch"
    side = "raise" if num_seen else "lower"
    raise ValueError(
        f"--mae.mask-ratio is {ratio:g}, which masks {which} of an image's {num_patches}; {side} it, or "
        "lower --mae.patch"
    )


def _written(shape: Shape) -> str:
    return f"{shape[1]}x{shape[2]} pixels and {shape[0]} channels"


def _is_folder(name: str) -> bool:
    return "/" in name or Path(name).is_dir()


def _saved(name: str) -> dict[str, Any]:
    """What transformers wrote of a model's configuration."""
    path = Path(name) / "config.json"
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--model {name} is no folder that transformers saved a model to (config.json: {error}); "
            f"give one, or {' or '.join(SIZES)}"
        ) from error
    defaults = {"num_channels": 3, "image_size": 224, "patch_size": 16}
    return {**defaults, **values}


# -- What the paper initialises and transformers leaves at zero ------------------------------------


def _initialize(model: Any) -> None:
    """As He et al. (appendix A.1, and their code): Xavier, tokens of 0.02, positions of sines.

    transformers (5.23) leaves the positions of a model made from a configuration at zero, and untrained.
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
    """Sines and cosines of each patch's column and row, (side² + 1, width), after one of zeros.

    ``width``: a multiple of 4. Columns come first, as in He et al.'s code.
    """
    rates = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [places.flatten()[:, None] * rates for places in (columns, rows)]
    table = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, width), table.float()])


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            f"masked autoencoders need {error.name}: pip install 'infobatch[tasks]'"
        ) from error
    return transformers
