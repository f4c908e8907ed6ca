"""Encoded pictures come as RGB of one shape: the part that was asked for."""

import io

import numpy as np
import pytest
from PIL import Image

from sparsity.data.crops import middle_part
from sparsity.data.decode import Undecodable, decoded
from sparsity.data.pictures import Picture
from tests.data.photographs import photographs


def encoded(image, form="JPEG", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return Picture(stream.getvalue(), 0, "the picture")


def whole(width, height):
    return 0, 0, width, height


PHOTOGRAPH = Image.fromarray(photographs()[0])


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_the_part_that_was_asked_for_comes_at_its_place(form):
    found = decoded(encoded(PHOTOGRAPH, form, quality=95), lambda w, h: (100, 50, 164, 114), 64)
    expected = photographs()[0][50:114, 100:164].astype(float)
    assert found.shape == (64, 64, 3) and found.dtype == np.uint8
    assert np.abs(found - expected).mean() < (0.01 if form == "PNG" else 4)


def test_a_large_jpeg_decoded_smaller_looks_the_same():
    """At 32 of 427 pixels libjpeg decodes an eighth; a PNG cannot, and is resized from all of it."""
    small, full = (decoded(encoded(PHOTOGRAPH, form), whole, 32) for form in ("JPEG", "PNG"))
    assert np.abs(small.astype(float) - full).mean() < 5


def test_an_evaluation_sees_what_resizing_to_256_and_cutting_224_out_gives():
    found = decoded(encoded(PHOTOGRAPH, "PNG"), middle_part, 224).astype(float)
    size = (round(640 * 256 / 427), 256)
    resized = PHOTOGRAPH.resize(size, Image.Resampling.BILINEAR)
    left, upper = (size[0] - 224) // 2, 16
    expected = np.asarray(resized.crop((left, upper, left + 224, upper + 224)), float)
    # half a pixel of difference where 384 - 224 is even and the true width, 383.7, is not whole
    assert np.abs(found - expected).mean() < 2


def test_a_mirrored_part_is_the_part_mirrored():
    plain, mirrored = (
        decoded(encoded(PHOTOGRAPH), middle_part, 48, flip) for flip in (False, True)
    )
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "1"])
def test_other_colours_come_as_rgb(mode):
    form = "JPEG" if mode in ("L", "CMYK") else "PNG"
    found = decoded(encoded(PHOTOGRAPH.convert(mode), form), whole, 40)
    assert found.shape == (40, 40, 3)
    grey = photographs()[0].mean()
    assert abs(found.mean() - grey) < 25


DATA = encoded(PHOTOGRAPH).data
BAD = {
    "empty": b"",
    "text": b"<html>no such picture</html>",
    "cut": DATA[: len(DATA) // 2],
    "header alone": DATA[:300],
    "no picture inside": b"\xff\xd8\xff\xd9",
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_decode_is_named(case):
    with pytest.raises(Undecodable, match="^n01440764/7.JPEG: cannot be decoded: .+"):
        decoded(Picture(BAD[case], 0, "n01440764/7.JPEG"), middle_part, 32)


def test_a_picture_as_small_as_a_pixel_is_a_picture():
    one = encoded(Image.new("RGB", (1, 1), (10, 200, 30)), "PNG")
    for choice in (whole, middle_part):
        assert (decoded(one, choice, 8) == (10, 200, 30)).all()
