"""A part of a labelled set, held out class by class."""

import math
from fractions import Fraction

import numpy as np

from sparsity.data.order import epoch_order


def hold_out(
    labels: np.ndarray, fraction: float | Fraction, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The indices that stay and those held out, each ascending: a function of the seed.

    Of each class with n images floor(fraction * n) are held out; the fraction is taken as the
    decimal that it prints as.

    Raises:
      ValueError: for a fraction outside (0, 1), and for one that leaves nothing on either side.
    """
    share = fraction if isinstance(fraction, Fraction) else Fraction(str(fraction))
    if not 0 < share < 1:
        raise ValueError(f"the fraction held out lies between 0 and 1, not at {fraction}")
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        held[rows[epoch_order(seed, int(label), len(rows))[: math.floor(share * len(rows))]]] = True
    if not held.any():
        raise ValueError(
            f"holding out {fraction} of each class takes no image: the largest class has "
            f"{np.unique(labels, return_counts=True)[1].max()}"
        )
    return np.flatnonzero(~held), np.flatnonzero(held)
