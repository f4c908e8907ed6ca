"""Blocks of lines become the integers that are written in them, and other lines are named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.data.criteo.lines import CATEGORIES, MISSING, NUMBERS, parse

NUMBER = st.one_of(st.just(""), st.integers(-(2**31) + 1, 2**31 - 1).map(str))
HASH = st.one_of(st.just(""), st.integers(0, 2**32 - 1).map("{:08x}".format))
LINE = st.tuples(
    st.sampled_from("01"),
    st.lists(NUMBER, min_size=NUMBERS, max_size=NUMBERS),
    st.lists(HASH, min_size=CATEGORIES, max_size=CATEGORIES),
).map(lambda parts: [parts[0], *parts[1], *parts[2]])
GOOD = ["1", *["7"] * NUMBERS, *["0123abcd"] * CATEGORIES]


def text(lines):
    return "".join("\t".join(line) + "\n" for line in lines).encode()


def plain(lines):
    """The same columns by Python's own int()."""
    columns = []
    for line in lines:
        present = sum(bool(h) << (1 + i) for i, h in enumerate(line[14:]))
        numbers = [int(n) if n else int(MISSING) for n in line[1:14]]
        columns.append([int(line[0]) | present, *numbers, *(int(h or "0", 16) for h in line[14:])])
    return np.array(columns, np.int64).astype(np.uint32).view(np.int32).T


@given(st.lists(LINE, min_size=1, max_size=8))
def test_columns_are_what_python_reads(lines):
    found = parse(text(lines))
    np.testing.assert_array_equal(found.columns, plain(lines))
    assert found.bad == () and found.lines == len(lines)


@pytest.mark.parametrize("digits", range(1, 11))
def test_numbers_of_every_length_are_read(digits):
    number = "1234567890"[:digits]
    line = [*GOOD[:1], number, f"-{number}", *GOOD[3:]]
    np.testing.assert_array_equal(parse(text([line])).columns, plain([line]))


BAD = {
    "label": (0, "2", "label is '2'"),
    "no label": (0, "", "label is ''"),
    "long label": (0, "10", "label is '10'"),
    "fraction": (1, "1.5", "I1 is '1.5'"),
    "word": (3, "null", "I3 is 'null'"),
    "sign": (13, "-", "I13 is '-'"),
    "plus": (2, "+5", "I2 is '+5'"),
    "space": (2, " 5", "I2 is ' 5'"),
    "too large": (4, "2147483648", "I4 is '2147483648'"),
    "far too large": (4, "9" * 60, "I4 is '99999"),
    "the mark of what is missing": (4, "-2147483648", "I4 is '-2147483648'"),
    "short hash": (14, "123abcd", "C1 is '123abcd'"),
    "long hash": (39, "0123abcde", "C26 is '0123abcde'"),
    "no hash": (20, "0123abcg", "C7 is '0123abcg'"),
    "upper case": (20, "0123ABCD", "C7 is '0123ABCD'"),
    "letters past f": (20, "oooooooo", "C7 is 'oooooooo'"),
    "control characters": (20, "\x10\x11234567", "C7 is"),
    "carriage return": (39, "0123abcd\r", "C26 is '0123abcd\\\\r'"),
    "umlaut": (14, "ü123456", "C1 is"),
}


@pytest.mark.parametrize("case", BAD)
def test_malformed_lines_are_left_out_and_named(case):
    place, value, words = BAD[case]
    line = [*GOOD[:place], value, *GOOD[place + 1 :]]
    found = parse(text([GOOD, line, GOOD]))
    np.testing.assert_array_equal(found.columns, plain([GOOD, GOOD]))
    ((number, reason),) = found.bad
    assert number == 1 and words.encode().decode("unicode_escape") in reason.replace("\\\\", "\\")


@pytest.mark.parametrize("columns", [1, 39, 41, 80])
def test_lines_of_other_columns_are_counted_out(columns):
    found = parse(text([GOOD, (2 * GOOD)[:columns], GOOD]))
    assert found.bad == ((1, f"{columns} columns instead of 40"),)
    np.testing.assert_array_equal(found.columns, plain([GOOD, GOOD]))


def test_a_last_line_may_lack_its_newline():
    whole, cut = parse(text([GOOD, GOOD])), parse(text([GOOD, GOOD])[:-1])
    np.testing.assert_array_equal(whole.columns, cut.columns)
    assert cut.lines == 2


@given(st.binary(max_size=400))
def test_no_bytes_raise(noise):
    found = parse(noise)
    assert found.columns.shape[1] + len(found.bad) == found.lines
