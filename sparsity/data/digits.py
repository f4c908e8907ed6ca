"""The digits that come with scikit-learn: 1,797 scans of 8x8 pixels, no download."""

from fractions import Fraction

import numpy as np

from sparsity.data.holdout import hold_out

CLASSES = 10
INK = 16  # the largest pixel
TEST, SEED = Fraction(1, 5), 0  # the set has no split of its own: this one is ours, and fixed


def read(split: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Images (N, 8, 8, 1) uint8 with 0..16 spread over 0..255, labels (N,) int32, and the classes.

    A fifth of each class is the test set.

    Raises:
      ImportError: without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the data set 'digits' comes with scikit-learn, which is not installed: "
            "install sparsity[experiments]"
        ) from error
    pixels, target = map(np.asarray, load_digits(return_X_y=True))
    train, test = hold_out(target, TEST, SEED)
    rows = train if split == "train" else test
    images = np.rint(pixels[rows] * (255 / INK)).astype(np.uint8)
    return images.reshape(-1, 8, 8, 1), target[rows].astype(np.int32), CLASSES
