"""How a convolution's windows lie on its images."""

from typing import Any, NamedTuple

from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]


class Geometry(NamedTuple):
    """Static numbers of a convolution of images (count, height, width, channels).

    kernel:  (height, width) of the window.
    strides: between windows, (along height, along width).
    padding: ((before, after), (before, after)) of height and width, with zeros.
    image:   (height, width, channels) of the input.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: Pads
    image: tuple[int, int, int]

    @property
    def out(self) -> tuple[int, int]:
        """(height, width) of the output."""
        sizes = zip(self.image, self.kernel, self.strides, self.padding, strict=False)
        height, width = ((n + sum(pad) - k) // stride + 1 for n, k, stride, pad in sizes)
        return height, width

    @property
    def pointwise(self) -> bool:
        """Whether it is a product of matrices over pixels: one tap, and no zeros around the image."""
        return self.kernel == (1, 1) and not any(map(any, self.padding))

    @property
    def rows(self) -> int:
        """Rows of the weight: taps * channels."""
        return self.kernel[0] * self.kernel[1] * self.image[2]


def geometry_of(
    image: tuple[int, ...], kernel: tuple[int, int], strides: tuple[int, int], padding: str | Pads
) -> Geometry:
    """The geometry with "SAME" or "VALID" padding as XLA defines them, or with the zeros that are named.

    Raises ValueError for others, and for a window that fits nowhere.
    """
    for what, pair in (("kernel", kernel), ("strides", strides)):
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(n > 0 for n in pair)):
            raise ValueError(f"a convolution's {what} is two positive integers, not {pair!r}")
    if len(image) != 3:
        raise ValueError(f"a convolution's x is (images, height, width, channels), not {image!r}")
    height, width, channels = image
    pads = _pads((height, width), kernel, strides, padding)
    sizes = zip((height, width), pads, kernel, strict=True)
    if any(n + before + after < k for n, (before, after), k in sizes):
        raise ValueError(
            f"a window of {kernel} does not fit into an image of {image[:2]} with padding {padding}"
        )
    return Geometry(kernel, strides, pads, (height, width, channels))


def _pads(
    size: tuple[int, int], kernel: tuple[int, int], strides: tuple[int, int], padding: str | Pads
) -> Pads:
    if padding in ("SAME", "VALID"):
        (top, bottom), (left, right) = lax.padtype_to_pads(size, kernel, strides, padding)
        return (top, bottom), (left, right)
    if isinstance(padding, tuple) and len(padding) == 2 and all(_pair(pad) for pad in padding):
        return padding
    raise ValueError(
        "a convolution's padding is ((before, after), (before, after)), 'SAME' or 'VALID', "
        f"not {padding!r}"
    )


def _pair(pad: Any) -> bool:
    return isinstance(pad, tuple) and len(pad) == 2 and all(type(n) is int and n >= 0 for n in pad)
