"""Networks for segmentation."""

from dataclasses import replace

import pytest
import torch

from helpers.segmentation import QUICK
from infobatch.lab.training.validate import check_config

transformers = pytest.importorskip("transformers")

from infobatch.lab.models.segmentation import NETWORKS, make_segmenter  # noqa: E402


@pytest.mark.parametrize("name", [name for name in NETWORKS if name[-2:] not in ("b3", "b4", "b5")])
def test_every_network_can_be_made(name):
    with torch.device("meta"):
        model = make_segmenter(name, 7).eval()
        logits = model(torch.zeros(2, 3, 64, 96))
    assert [each.shape[:2] for each in logits] == [(2, 7)] * (2 if name.startswith("upernet") else 1)


@pytest.mark.parametrize(("name", "millions"), [("segformer-b0", 3.8), ("segformer-b2", 27.5)])
def test_segformers_have_the_papers_sizes(name, millions):
    with torch.device("meta"):
        model = make_segmenter(name, 150)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_nothing_is_dropped_at_random():
    model = make_segmenter("segformer-b0", 3)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images)[0], model(images)[0])
    assert all(m.p == 0 for m in model.modules() if isinstance(m, torch.nn.Dropout))


def test_a_folder_gives_its_network_with_a_head_for_the_classes(tmp_path):
    saved = make_segmenter("segformer-tiny", 4).network
    saved.save_pretrained(tmp_path)
    read = make_segmenter(str(tmp_path), 11).network
    assert read.decode_head.classifier.out_channels == 11
    for ours, theirs in zip(saved.segformer.parameters(), read.segformer.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["segformer-tiny", "upernet-tiny"])
def test_an_encoder_can_be_pretrained(tmp_path, name):
    config = NETWORKS[name]()
    config = config if name.startswith("segformer") else config.backbone_config
    kind = transformers.AutoModelForImageClassification.from_config(config)
    kind.save_pretrained(tmp_path)
    network = make_segmenter(name, 3, str(tmp_path)).network
    theirs = dict(kind.base_model.named_parameters())
    ours = network.segformer if name.startswith("segformer") else network.backbone
    assert {key for key, p in ours.named_parameters() if torch.equal(p, theirs[key])} == set(theirs)
    other = "upernet-resnet18" if name.startswith("upernet") else "segformer-b0"
    with pytest.raises(ValueError, match=r"no encoder of --model could be made .* same architecture"):
        make_segmenter(other, 3, str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "whose config.json cannot be read .* a folder in which a segformer or upernet"),
        ("{", "whose config.json cannot be read .* a folder in which a segformer or upernet"),
        ('{"model_type": "bert"}', "a folder with a bert; give one with a segformer or upernet"),
    ],
)
def test_a_folder_with_another_model_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        check_config(replace(QUICK, model=str(tmp_path)))
