"""Click logs small enough for every test: text, and its prepared form."""

import pytest

from sparsity.data.criteo import planted
from sparsity.data.criteo.prepare import Order, prepare
from sparsity.data.criteo.stages import Coding


@pytest.fixture(scope="session")
def logs():
    """3,000 lines."""
    return b"".join(planted.text(0, 3000))


@pytest.fixture
def ordered(tmp_path, logs):
    """(text, settings) -> the order to prepare it, in blocks of some 250 lines."""

    def make(text=logs, folder="prepared", name="train.txt", **settings):
        source = tmp_path / name
        source.write_bytes(text)
        defaults = {"coding": Coding(3), "workers": 1, "block": 1 << 16}
        return Order(source, tmp_path / folder, **(defaults | settings))

    return make


@pytest.fixture
def prepared(ordered):
    """The order of all lines, carried out."""
    order = ordered()
    prepare(order)
    return order
