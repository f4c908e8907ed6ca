"""The area under the ROC curve, exactly: from all scores, sorted once."""

import numpy as np


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The chance that a random positive scores above a random negative, a tie counting one half.

    scores, labels: (n,), labels 0 or 1. Counted in whole numbers but for the last division. NaN where
    only one of the labels is there.
    """
    order = np.argsort(scores, kind="stable")
    ranked, positive = np.asarray(scores)[order], np.asarray(labels)[order] == 1
    edges = np.flatnonzero(np.diff(ranked, prepend=np.nan) != 0)  # where each run of ties begins
    ups = np.add.reduceat(positive, edges, dtype=np.int64) if len(ranked) else np.zeros(0, np.int64)
    downs = np.diff(edges, append=len(ranked)) - ups
    below = np.cumsum(downs) - downs
    pairs = int(ups.sum()) * int(downs.sum())
    return int((ups * (2 * below + downs)).sum()) / (2 * pairs) if pairs else float("nan")
