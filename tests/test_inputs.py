"""Losses, indices, masks and signals that do not fit are refused, and nothing is recorded."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from helpers import Numbers, batched_pruner, in_pruned_epoch
from infobatch import DynamicPruner, InfoBatch
from infobatch.inputs import check_losses
from infobatch.policies import Proportional


@pytest.mark.parametrize(
    ("losses", "indices", "error", "message"),
    [
        (torch.tensor(1.0), [1], ValueError, r"losses have shape \(\); .* reduction='none'"),
        (torch.ones(2, 3), [1, 2], ValueError, r"losses have shape \(2, 3\)"),
        (torch.tensor(1.0).expand(2), [1, 2], ValueError, "one number repeated.*loss.repeat"),
        (torch.ones(3), [1, 2], ValueError, "3 losses came with 2 indices"),
        (
            torch.ones(0),
            [],
            ValueError,
            "the batch is empty, .* NaN; pass over",
        ),
        (torch.ones(0), np.empty(0, int), ValueError, "the batch is empty"),
        ([0.5, 0.5], [1, 2], TypeError, "losses are a list; give the tensor"),
        (np.ones(2), [1, 2], TypeError, "losses are a ndarray; give the tensor"),
        (torch.ones(2, dtype=torch.long), [1, 2], TypeError, "dtype torch.int64; they must be floating"),
        (torch.ones(2), np.array([1.0, 2.0]), TypeError, "indices have dtype float64; .*as it came"),
        (torch.ones(2), torch.tensor([1.0, 2.0]), TypeError, "indices have dtype float32"),
        (np.arange(2), torch.ones(2, requires_grad=True), TypeError, "it came, after the losses"),
        (torch.ones(2), np.array([True, False]), TypeError, "indices have dtype bool"),
        (
            torch.ones(2),
            torch.ones(2, dtype=int, device="meta"),
            TypeError,
            "indices are on meta; .* host",
        ),
        (torch.ones(2), np.ones((1, 2), int), ValueError, r"indices have shape \(1, 2\)"),
        (torch.ones(2), [1, 20], ValueError, "sample 20 does not exist: the dataset has 20"),
        (torch.ones(2), [1, -1], ValueError, "sample -1 does not exist"),
    ],
)
@pytest.mark.parametrize("call", ["update", "weigh", "record"])
def test_losses_and_indices_that_do_not_fit(losses, indices, error, message, call):
    made = batched_pruner()
    with pytest.raises(error, match=message):
        getattr(made, call)(losses, indices)
    assert made.scores["last_loss"].isnan().all()
    assert made.current.num_recorded == 0


@pytest.fixture
def shared():
    tensors = pytest.importorskip("torch.distributed.tensor")
    if not hasattr(tensors, "DTensor"):
        pytest.skip("it came there with torch 2.5")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1,))
    yield lambda values: tensors.DTensor.from_local(values, mesh, [tensors.Replicate()])
    dist.destroy_process_group()


@pytest.mark.parametrize("name", ["losses", "scored", "scores", "gradient_norms"])
@pytest.mark.parametrize("call", ["update", "record"])
def test_tensors_that_ranks_hold_together_are_refused(name, call, shared):
    made = batched_pruner()
    given = {"losses": torch.rand(4), name: torch.rand(4) > 0.5 if name == "scored" else torch.rand(4)}
    given[name] = shared(given[name])
    with pytest.raises(TypeError, match=rf"{name} are a DTensor, .* give .*: {name}\.full_tensor\(\)"):
        getattr(made, call)(indices=[0, 1, 2, 3], **given)
    assert made.progress == made.current.num_recorded == 0
    given[name] = given[name].full_tensor()
    getattr(made, call)(indices=[0, 1, 2, 3], **given)


@pytest.mark.parametrize("name", ["scored", "scores", "gradient_norms"])
@pytest.mark.parametrize("call", ["update", "record"])
def test_what_is_on_another_device_is_refused(name, call):
    made = batched_pruner()
    values = torch.ones(2, dtype=torch.bool if name == "scored" else torch.float32, device="meta")
    with pytest.raises(ValueError, match=rf"{name} (is|are) .*on meta, and the losses .*on cpu; give"):
        getattr(made, call)(torch.ones(2), [1, 2], **{name: values})
    assert made.current.num_recorded == 0


@pytest.mark.parametrize("scored", [[True], [True, False, True]])
@pytest.mark.parametrize("call", ["update", "record"])
def test_a_mask_of_another_length(scored, call):
    made = batched_pruner()
    with pytest.raises(ValueError, match="scored"):
        getattr(made, call)(torch.ones(2), [1, 2], torch.tensor(scored))
    assert made.current.num_recorded == 0


@pytest.mark.parametrize(
    ("scored", "kind"),
    [
        ([True, False], "list"),
        (np.array([True, False]), "ndarray"),
        (torch.tensor([1, 0]), "torch.int64"),
    ],
)
@pytest.mark.parametrize("call", ["update", "record"])
def test_a_mask_of_another_kind(scored, kind, call):
    made = batched_pruner()
    with pytest.raises(TypeError, match=f"scored is {kind}; give a bool tensor"):
        getattr(made, call)(torch.ones(2), [1, 2], scored)
    assert made.current.num_recorded == 0


@pytest.mark.parametrize("scored", [torch.tensor([True]), torch.ones(3, dtype=bool)])
def test_a_mask_of_another_length_is_refused(scored):
    pruner, indices = in_pruned_epoch()
    with pytest.raises(ValueError, match="scored"):
        pruner.update(torch.rand(8), indices, scored=scored)


def test_a_signal_that_the_policy_reads_must_come_with_each_batch():
    pruner = DynamicPruner(Numbers(3), 3, policy=Proportional(by="gradient_norm"))
    with pytest.raises(ValueError, match=r"reads gradient_norms.*such as output_gradient_norms\(losses"):
        pruner.update(torch.ones(3), np.arange(3))
    with pytest.raises(ValueError, match=r"gradient_norms are of shape \(2,\) .* of shape \(3,\)"):
        pruner.update(torch.ones(3), np.arange(3), gradient_norms=torch.ones(2))
    with pytest.raises(TypeError, match="no signal 'norms'; there are gradient_norms, confidences"):
        pruner.update(torch.ones(3), np.arange(3), norms=torch.ones(3))
    assert pruner.current.num_recorded == 0


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.ones(3), r"scores are of shape \(3,\) on cpu, and the losses of shape \(4,\)"),
        ([1.0] * 4, "scores are list, and the losses"),
        (torch.ones(4, dtype=torch.int64), r"scores have dtype torch\.int64; they must be floating"),
    ],
)
def test_scores_that_do_not_fit_their_losses_are_refused(scores, message):
    pruner = DynamicPruner(range(8), 3, policy=InfoBatch())
    with pytest.raises((TypeError, ValueError), match=message):
        pruner.update(torch.ones(4), [0, 1, 2, 3], scores=scores)
    assert pruner.current.num_recorded == 0


def test_losses_in_a_column_are_told_from_those_of_pixels():
    with pytest.raises(ValueError, match=r"shape \(4, 1\); give them as \(B,\), by losses.flatten\(\)"):
        check_losses(torch.rand(4, 1), np.arange(4), None)
    with pytest.raises(ValueError, match=r"shape \(4, 3\); pruning needs one loss for each sample"):
        check_losses(torch.rand(4, 3), np.arange(4), None)
