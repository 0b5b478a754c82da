"""Features are judged by neighbours and by a linear probe."""

import torch

from infobatch.lab.data import load_data
from infobatch.lab.tasks import feature_evaluation


def test_neighbours_vote_by_cosine():
    train = torch.tensor([[1.0, 0.0], [2.0, 0.2], [0.0, 1.0], [-1.0, 0.0]])
    labels = torch.tensor([2, 2, 1, 0])
    test = torch.tensor([[5.0, 0.1], [0.1, 9.0], [-3.0, 0.0]])
    predicted = feature_evaluation.predict_by_neighbors(train, labels, test, 3)
    assert predicted.tolist() == [2, 1, 0]


def test_neighbours_are_found_in_chunks_as_at_once(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.randn(n, 8, generator=generator) for n in (300, 50))
    labels = torch.randint(4, (300,), generator=generator)
    whole = feature_evaluation.predict_by_neighbors(train, labels, test, 4)
    monkeypatch.setattr(feature_evaluation, "CHUNK_NUMBERS", 2100)
    assert torch.equal(feature_evaluation.predict_by_neighbors(train, labels, test, 4), whole)


def test_the_linear_probe_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    digits = load_data("digits")
    train, test = (part.pixels.flatten(1).float() for part in (digits.train, digits.test))
    train, test = feature_evaluation.standardized(train, test)
    ours = feature_evaluation.predict_by_linear_probe(train, digits.train.labels, test, 10).numpy()
    theirs = LogisticRegression(max_iter=500).fit(train.numpy(), digits.train.labels.numpy())
    assert (ours == theirs.predict(test.numpy())).mean() > 0.99
