"""Samples that are nearly the same, by embeddings."""

from __future__ import annotations

import numpy as np

LEAST_SIMILARITY = 0.95
"""The cosine of the angle between two embeddings from which on they are taken for near-duplicates."""
MOST_PAIRS = 500


def near_duplicates(embeddings: np.ndarray, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Find each sample's nearest neighbour, and keep the pairs that are close.

    Args:
        embeddings: A vector for each sample, finite, (N, D).
        num_samples: N.

    Returns:
        Pairs of samples, int64 (P, 2), each pair once, and their cosine similarities, float32 (P,), at
        least ``LEAST_SIMILARITY``; the closest pairs first, at most ``MOST_PAIRS``.

    Raises:
        ValueError: If the embeddings are no finite (N, D) matrix.
    """
    from sklearn.neighbors import NearestNeighbors

    vectors = np.asarray(embeddings, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != num_samples:
        raise ValueError(
            f"embeddings have the shape {vectors.shape}, but must be one vector for each of the "
            f"{num_samples:,} samples, ({num_samples}, D)"
        )
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise ValueError(f"embeddings are not finite in row {row}; give finite ones")
    if num_samples < 2:
        return np.empty((0, 2), np.int64), np.empty(0, np.float32)
    search = NearestNeighbors(n_neighbors=2, metric="cosine", algorithm="brute").fit(vectors)
    distances, neighbours = search.kneighbors(vectors)
    own = np.arange(num_samples)
    # Of samples that are the same, any may come first.
    place = (neighbours[:, 0] == own).astype(np.int64)
    nearest, similarity = neighbours[own, place], 1 - distances[own, place]
    pairs = np.sort(np.stack([own, nearest], axis=1), axis=1)
    pairs, first = np.unique(pairs, axis=0, return_index=True)
    similarity = similarity[first]
    close = np.flatnonzero(similarity >= LEAST_SIMILARITY)
    order = close[np.argsort(-similarity[close], kind="stable")][:MOST_PAIRS]
    return pairs[order].astype(np.int64), similarity[order].astype(np.float32)
