"""Which part of a picture is seen: at random in training, the middle in evaluation.

A part is (left, upper, right, lower) in pixels, as Pillow takes it.
"""

import math
from collections.abc import Iterator

import numpy as np

Part = tuple[float, float, float, float]
AREA, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
MIDDLE = 224 / 256  # of the shorter side


def draws(seed: int, epoch: int, index: int) -> Iterator[float]:
    """Numbers in [0, 1), a function of the three: raw bits of PCG64, the same in all versions of NumPy.

    They do not depend on the step or the batch, so neither does what an epoch shows of a picture.
    """
    bits = np.random.PCG64([seed, epoch, index])
    while True:
        yield (int(bits.random_raw()) >> 11) * 2.0**-53


def random_part(numbers: Iterator[float], width: int, height: int) -> Part:
    """A rectangle of 8 to 100% of the area, of a ratio of 3/4 to 4/3, uniform in area and log ratio.

    What does not fit in ten tries is the largest middle rectangle of a ratio that is allowed.
    Source: Szegedy et al., arXiv 1409.4842, section 6; the tries as in torchvision's RandomResizedCrop.
    """
    low, high = (math.log(ratio) for ratio in RATIO)
    for _ in range(TRIES):
        area = width * height * (AREA[0] + (AREA[1] - AREA[0]) * next(numbers))
        ratio = math.exp(low + (high - low) * next(numbers))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left = int(next(numbers) * (width - across + 1))
            upper = int(next(numbers) * (height - down + 1))
            return left, upper, left + across, upper + down
    return _largest(width, height)


def middle_part(width: int, height: int) -> Part:
    """The square that is left when the shorter side is resized to 256 and 224 of it are cut out."""
    side = MIDDLE * min(width, height)
    return _centred(side, side, width, height)


def _largest(width: int, height: int) -> Part:
    across = min(width, round(height * RATIO[1]))
    down = min(height, round(width / RATIO[0]))
    return _centred(across, down, width, height)


def _centred(across: float, down: float, width: int, height: int) -> Part:
    left, upper = (width - across) / 2, (height - down) / 2
    return left, upper, left + across, upper + down
