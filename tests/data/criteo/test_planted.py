"""Generated click logs: a function of the seed, of the real shape, with the structure that is planted."""

import numpy as np
import pytest

from sparsity.data.criteo import planted
from sparsity.data.criteo.lines import MISSING, parse


@pytest.fixture(scope="module")
def columns():
    return parse(b"".join(planted.text(0, 2 * planted.ROWS))).columns


def test_a_shorter_file_is_the_beginning_of_a_longer(logs):
    assert b"".join(planted.text(0, 3000)) == logs
    assert b"".join(planted.text(0, planted.ROWS + 10)).startswith(logs)
    assert b"".join(planted.text(1, 3000)) != logs


def test_clicks_and_empty_fields_come_as_often_as_they_should(columns):
    assert abs((columns[0] & 1).mean() - planted.CLICKS) < 0.005
    empty = (columns[1:14] == MISSING).mean(1)
    np.testing.assert_allclose(empty, planted.EMPTY[:13], atol=0.01)
    assert (columns[2] < 0).any()


def test_categories_have_a_long_tail(columns):
    _, counts = np.unique(columns[14 + 2], return_counts=True)  # of ten million values
    counts = np.sort(counts)[::-1]
    assert counts[0] > 0.03 * columns.shape[1] and (counts == 1).mean() > 0.5


def gain(values, clicks):
    """Nats that knowing a field's value saves per click, of values that come often."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    rates = np.bincount(place, clicks)[place] / counts[place]
    often, mean = counts[place] > 400, clicks.mean()
    relative = clicks * np.log(rates.clip(1e-9) / mean) + (1 - clicks) * np.log(
        (1 - rates).clip(1e-9) / (1 - mean)
    )
    return relative[often].sum() / len(clicks)


def test_only_planted_fields_tell_of_clicks(columns):
    clicks, structure = (columns[0] & 1).astype(float), planted.structure(0)
    gains = np.array([gain(column, clicks) for column in columns[14:]])
    chosen = [field for field, _ in structure.categories]
    others = [field for field in range(26) if field not in chosen]
    assert gains[chosen].min() > 3 * gains[others].max()
