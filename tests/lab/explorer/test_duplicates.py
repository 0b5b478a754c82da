"""Near-duplicates are found by the angle between embeddings."""

import numpy as np
import pytest

from infobatch.lab.explorer.duplicates import near_duplicates


def test_close_pairs_come_once_and_the_closest_first():
    angles = np.array([0.0, 0.1, 1.5, 3.0, 1.52, 4.5])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [5], [1], [1], [2], [1]]
    pairs, similarities = near_duplicates(vectors, 6)
    assert pairs.tolist() == [[2, 4], [0, 1]]
    assert similarities == pytest.approx(np.cos([0.02, 0.1]), abs=1e-5)


def test_samples_that_are_the_same_are_pairs_of_two():
    pairs, similarities = near_duplicates(np.ones((3, 4)), 3)
    assert all(first < second for first, second in pairs.tolist())
    assert similarities == pytest.approx(1)


def test_embeddings_of_another_shape_or_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"have the shape \(4, 2\), but must be one .* 5 samples"):
        near_duplicates(np.ones((4, 2)), 5)
    broken = np.ones((5, 2))
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite in row 3"):
        near_duplicates(broken, 5)
