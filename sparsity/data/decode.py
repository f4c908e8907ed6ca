"""Encoded pictures as arrays of one shape, by Pillow: a part of each, resized.

Pillow, as its wheels hold libjpeg-turbo, give the GIL up while they decode and resize, and exist for
every Python here; it also reads what lies among ImageNet's JPEGs and is none (CMYK, one PNG).
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from sparsity.data.crops import Part
from sparsity.data.pictures import Picture

Choice = Callable[[int, int], Part]


class Undecodable(ValueError):
    """A picture that cannot be decoded."""


def decoded(picture: Picture, choice: Choice, side: int, flip: bool = False) -> np.ndarray:
    """The part `choice(width, height)` of a picture, resized to (side, side, 3) uint8, RGB.

    Resampling is bilinear over all pixels of the part. A JPEG of which the part is at least twice too
    large is first decoded at a half, a quarter or an eighth, which libjpeg does for less.

    Raises:
      Undecodable: which picture, and why.
      ImportError: without Pillow.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("pictures are decoded by Pillow: install sparsity[images]") from error
    try:
        with Image.open(io.BytesIO(picture.data)) as image:
            return _resized(Image, image, choice, side, flip)
    # What Pillow raises for bytes that are no picture is no one class.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Undecodable(f"{picture.where}: cannot be decoded: {reason}") from error


def _resized(pillow: Any, image: Any, choice: Choice, side: int, flip: bool) -> np.ndarray:
    width, height = image.size
    left, upper, right, lower = choice(width, height)
    scale = side / min(right - left, lower - upper)
    if scale < 1:
        image.draft("RGB", (int(width * scale), int(height * scale)))
    across, down = image.size[0] / width, image.size[1] / height
    part = (left * across, upper * down, right * across, lower * down)
    found = image.convert("RGB").resize((side, side), pillow.Resampling.BILINEAR, part)
    pixels = np.asarray(found)
    return pixels[:, ::-1].copy() if flip else pixels
