"""SegFormer and UPerNet of the transformers library: new by name, or loaded from a folder.

Dropout and stochastic depth are off, because what they drop depends on the sample's batch and on the
steps before, and so would its score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from infobatch.batch_norm.layers import WeightedBatchNorm2d
from infobatch.lab.models.packages import import_for, read_config
from infobatch.lab.names import choose

STAGES = ["stage1", "stage2", "stage3", "stage4"]
DROPOUTS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob"),
    "drop_path_rate",
)
BACKBONE_WEIGHTS = ("hidden_states_norms",)
"""Weights that an encoder has only inside a segmentation network."""
FAMILIES = ("segformer", "upernet")


class Segmenter(nn.Module):
    """Makes of images (B, 3, H, W) logits (B, C, h, w), which are smaller than the images.

    The logits of the main head come first, then those of an auxiliary head, if there is one.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.network.config.model_type == "segformer":
            return (self.network(images).logits,)
        features = self.network.backbone(images).feature_maps
        heads = (self.network.decode_head, self.network.auxiliary_head)
        return tuple(head(features) for head in heads if head is not None)


class LoneBatchNorm(WeightedBatchNorm2d):
    """Uses its running statistics where a batch has one value in each channel, and so no variance.

    UPerNet pools a last batch of one image to one pixel. The weights of a batch count where it is given
    them, as in a layer that was converted.
    """

    def forward(self, values: Tensor) -> Tensor:
        if self.training and values.numel() == values.shape[1]:
            statistics = (self.running_mean, self.running_var)
            return F.batch_norm(values, *statistics, self.weight, self.bias, eps=self.eps)
        return super().forward(values)


def _segformer(
    hidden_sizes: tuple[int, ...], depths: tuple[int, ...], decoder: int, heads: tuple[int, ...]
) -> Any:
    """A SegFormer's configuration (Xie et al., NeurIPS 2021, table 6)."""
    return _transformers().SegformerConfig(
        hidden_sizes=hidden_sizes, depths=depths, decoder_hidden_size=decoder, num_attention_heads=heads
    )


def _mit(depths: tuple[int, ...], decoder: int = 768) -> Any:
    """A SegFormer with the widths of MiT-B1 to B5."""
    return _segformer((64, 128, 320, 512), depths, decoder, (1, 2, 5, 8))


def _upernet(encoder: Any, hidden_size: int = 512, auxiliary: int = 256) -> Any:
    """UPerNet (Xiao et al., ECCV 2018) with the sizes and the auxiliary head of mmsegmentation."""
    return _transformers().UperNetConfig(
        backbone_config=encoder, hidden_size=hidden_size, auxiliary_channels=auxiliary
    )


def _resnet(
    hidden_sizes: tuple[int, ...], depths: tuple[int, ...], layer: str = "bottleneck", stem: int = 64
) -> Any:
    return _transformers().ResNetConfig(
        hidden_sizes=hidden_sizes,
        depths=depths,
        layer_type=layer,
        embedding_size=stem,
        out_features=STAGES,
    )


def _convnext() -> Any:
    return _transformers().ConvNextConfig(hidden_sizes=[96, 192, 384, 768], out_features=STAGES)


WIDE = (256, 512, 1024, 2048)

NETWORKS: dict[str, Callable[[], Any]] = {
    "segformer-tiny": lambda: _segformer((16, 32, 64, 128), (1, 1, 1, 1), 64, (1, 1, 2, 4)),
    "segformer-b0": lambda: _segformer((32, 64, 160, 256), (2, 2, 2, 2), 256, (1, 2, 5, 8)),
    "segformer-b1": lambda: _mit((2, 2, 2, 2), decoder=256),
    "segformer-b2": lambda: _mit((3, 4, 6, 3)),
    "segformer-b3": lambda: _mit((3, 4, 18, 3)),
    "segformer-b4": lambda: _mit((3, 8, 27, 3)),
    "segformer-b5": lambda: _mit((3, 6, 40, 3)),
    "upernet-tiny": lambda: _upernet(_resnet((16, 32, 64, 128), (1, 1, 1, 1), "basic", 16), 32, 16),
    "upernet-resnet18": lambda: _upernet(_resnet((64, 128, 256, 512), (2, 2, 2, 2), "basic")),
    "upernet-resnet50": lambda: _upernet(_resnet(WIDE, (3, 4, 6, 3))),
    "upernet-resnet101": lambda: _upernet(_resnet(WIDE, (3, 4, 23, 3))),
    "upernet-convnext-tiny": lambda: _upernet(_convnext()),
    "upernet-swin-tiny": lambda: _upernet(_transformers().SwinConfig(out_features=STAGES)),
}
"""What makes each configuration, by name; the defaults of transformers' Swin are Swin-Tiny's."""


def check_segmenter(name: str) -> None:
    """Refuse a network that cannot be made.

    Args:
        name: One of :data:`NETWORKS`, or the folder of a saved segformer or upernet.

    Raises:
        ValueError: If there is no such network, or the folder holds another model.
    """
    if not Path(name).is_dir():
        choose("model", name, {**NETWORKS, "a folder": None})
        return
    family = read_config(name, "a folder in which a segformer or upernet was saved").get("model_type")
    if family not in FAMILIES:
        raise ValueError(
            f"--model is {name}, a folder with a {family}; give one with a segformer or upernet"
        )


def make_segmenter(name: str, num_classes: int, encoder: str = "") -> Segmenter:
    """Make a new network, or load the one in a folder and give it a head for these classes.

    Args:
        name: See :func:`check_segmenter`. New weights are drawn from PyTorch's global generator.
        num_classes: The number of classes.
        encoder: A folder, or a name on the hub, with pretrained weights of the encoder; empty for none.

    Returns:
        The network, without dropout.

    Raises:
        ValueError: If the pretrained encoder is of another architecture.
        ConnectionError: If it cannot be downloaded.
        ImportError: If transformers is not installed.
    """
    transformers = _transformers()
    pretrained = Path(name).is_dir()
    config = transformers.AutoConfig.from_pretrained(name) if pretrained else NETWORKS[name]()
    config.num_labels = num_classes
    for part in (config, getattr(config, "backbone_config", None)):
        for option in DROPOUTS:
            if hasattr(part, option):
                setattr(part, option, 0.0)
    model_class = transformers.AutoModelForSemanticSegmentation
    if pretrained:
        with _quiet():
            network = model_class.from_pretrained(name, config=config, ignore_mismatched_sizes=True)
    else:
        network = model_class.from_config(config)
    if encoder:
        load_encoder(network, encoder)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = LoneBatchNorm
    return Segmenter(network)


def load_encoder(network: Any, source: str) -> None:
    """Give a network's encoder the weights of a pretrained one of the same architecture."""
    encoder = network.segformer if network.config.model_type == "segformer" else network.backbone
    folder = source if Path(source).is_dir() else _download(source)
    try:
        with _quiet():
            found, loading_info = type(encoder).from_pretrained(
                folder, config=encoder.config, output_loading_info=True
            )
        missing = [key for key in loading_info["missing_keys"] if not key.startswith(BACKBONE_WEIGHTS)]
        if missing:
            raise ValueError(f"it has no {sorted(missing)[0]}")
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"--segmentation.encoder is {source}, of which no encoder of --model could be made "
            f"({reason}); give one of the same architecture"
        ) from error
    encoder.load_state_dict(found.state_dict())


def _download(name: str) -> str:
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(name, allow_patterns=["config.json", "*.safetensors"])
    except Exception as error:
        raise ConnectionError(
            f"--segmentation.encoder is {name}, which is no folder, and could not be downloaded from "
            f"huggingface.co/{name} ({type(error).__name__}); check the connection, or give a folder"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bars and its list of heads that are missing."""
    logging = _transformers().logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


def _transformers() -> Any:
    return import_for("--task segmentation", "transformers")
