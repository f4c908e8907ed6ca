"""How a convolution's windows lie on its images."""

from typing import NamedTuple

from jax import lax


class Geometry(NamedTuple):
    """Static numbers of a convolution of images (count, height, width, channels).

    kernel:  (height, width) of the window.
    strides: between windows, (along height, along width).
    padding: ((before, after), (before, after)) of height and width, with zeros.
    image:   (height, width, channels) of the input.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    image: tuple[int, int, int]

    @property
    def out(self) -> tuple[int, int]:
        """(height, width) of the output."""
        sizes = zip(self.image, self.kernel, self.strides, self.padding, strict=False)
        height, width = ((n + sum(pad) - k) // stride + 1 for n, k, stride, pad in sizes)
        return height, width

    @property
    def rows(self) -> int:
        """Rows of the weight: taps * channels."""
        return self.kernel[0] * self.kernel[1] * self.image[2]


def geometry_of(
    image: tuple[int, ...], kernel: tuple[int, int], strides: tuple[int, int], padding: str
) -> Geometry:
    """The geometry with "SAME" or "VALID" padding as XLA defines them. Raises ValueError for others."""
    for what, pair in (("kernel", kernel), ("strides", strides)):
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(n > 0 for n in pair)):
            raise ValueError(f"a convolution's {what} is two positive integers, not {pair!r}")
    if padding not in ("SAME", "VALID"):
        raise ValueError(f"a convolution's padding is 'SAME' or 'VALID', not {padding!r}")
    if len(image) != 3:
        raise ValueError(f"a convolution's x is (images, height, width, channels), not {image!r}")
    height, width, channels = image
    if padding == "VALID" and (height < kernel[0] or width < kernel[1]):
        raise ValueError(f"a window of {kernel} does not fit into an image of {image[:2]}")
    (top, bottom), (left, right) = lax.padtype_to_pads((height, width), kernel, strides, padding)
    return Geometry(kernel, strides, ((top, bottom), (left, right)), (height, width, channels))
