"""What arms are called while they are trained: the words of the tables, and no two alike."""

from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.labels import labels_of
from infobatch.lab.comparison.variants import Variant
from infobatch.lab.config.train import TrainConfig


def labels(path, *variants, **options):
    comparison = Comparison(TrainConfig(data="digits", **options), variants, 1, None, path)
    return labels_of(comparison.arms, comparison.config)


def test_arms_of_one_variant_have_short_names(tmp_path):
    assert labels(tmp_path, Variant("noise-budget:max_noise=1.1")) == [
        "full data",
        "noise budget 1.1",
        "fewer epochs",
        "fewer epochs lr↑",
        "fewer epochs, same steps",
        "random pruning, same steps",
    ]


def test_controls_of_several_variants_are_told_apart_by_their_cost(tmp_path):
    names = labels(tmp_path, Variant("infobatch", 0.3), Variant("noise-budget:max_noise=1.1"))
    assert len(set(names)) == len(names) == 10
    assert "fewer epochs, as InfoBatch r=0.3" in names
    assert "fewer epochs, as noise budget 1.1" in names
    assert "random pruning" in names
    assert "random pruning, same steps" in names


def test_arms_of_a_contest_are_told_by_what_they_save(tmp_path):
    variants = [Variant(name, 0.5, save) for save in (0.3, 0.5) for name in ("infobatch", "rs2")]
    names = labels(tmp_path, *variants)
    assert len(set(names)) == len(names)
    assert "fewer epochs, 30 % saved" in names
    assert "RS2, 50 % saved (biased)" in names
