"""Classification: its evaluation, and the gradients of single samples."""

from dataclasses import replace

import pytest
import torch

from helpers.digits import PROBED, QUICK
from infobatch.lab.tasks.classification import Classification
from infobatch.losses import classification_losses


def test_top_5_and_class_accuracies_agree_with_the_logits(data):
    assert "top-5 %" not in Classification(QUICK, data).evaluate().details
    data = replace(data, class_names=(*data.class_names, "eleventh"))
    task = Classification(QUICK, data)
    result = task.evaluate()
    task.model.eval()
    with torch.no_grad():
        images = task.feed.normalize(data.test.pixels)
        logits = task.model(images.contiguous(memory_format=torch.channels_last))
    labels = data.test.labels
    right = logits.argmax(1) == labels
    assert result.result == pytest.approx(100 * right.float().mean().item())
    in_five = (logits.topk(5).indices == labels[:, None]).any(1)
    assert result.details["top-5 %"] == pytest.approx(100 * in_five.float().mean().item())
    assert result.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())
    assert result.counts == labels.bincount(minlength=11).tolist()
    assert result.per_class[3] == pytest.approx(100 * right[labels == 3].float().mean().item())


@pytest.mark.parametrize("options", [{}, {"norm": "group", "model": "resnet8"}, {"mixup": 0.2}])
def test_gradients_are_those_of_each_sample_alone(data, options):
    task = Classification(replace(PROBED, **options), data)
    task.begin(7)
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    indices = torch.tensor([3, 1400 - 1, 77]).numpy()
    (chunk,) = task.gradients(indices)
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.state_dict().items())
    assert task.model.training
    task.model.eval()
    images, targets = task.inputs(torch.from_numpy(indices), indices)
    for i in range(3):
        logits = task.model(images[i : i + 1])
        loss = classification_losses(logits, targets[i : i + 1], label_smoothing=0.1).sum()
        alone = torch.autograd.grad(loss, list(task.model.parameters()))
        for ours, theirs in zip(chunk, alone, strict=True):
            assert ours[i].numpy() == pytest.approx(theirs.numpy(), abs=1e-5, rel=1e-3)


def test_a_single_class_is_nothing_to_learn(data):
    alone = replace(data, class_names=("only",))
    with pytest.raises(ValueError, match="has the class only alone, and there is nothing to tell apart"):
        Classification.check(QUICK, alone)
