"""Tables are cut once and for all, and a step sees the same rows wherever they lie."""

import jax
import numpy as np
import pytest

from sparsity.data import gathered, tables
from sparsity.data.order import epoch_order, indices
from sparsity.data.orders import Orders
from sparsity.data.tables import MISSING, Table, parts, read, shares
from sparsity.models import clicks


def test_the_published_cut_is_exact():
    assert shares(45_840_617) == (33_003_326, 8_250_124, 4_587_167)
    assert sum(shares(45_840_617)) == 45_840_617


@pytest.mark.parametrize("n", [10, 99, 100, 101, 32_561, 45_840_616])
def test_other_sizes_are_cut_in_that_ratio(n):
    train, validation, test = shares(n)
    assert (validation, test) == (int(n * 18 / 100), int(n / 10)) and train + validation + test == n


def test_parts_are_a_permutation_by_seed():
    found = parts(1000, 0)
    assert [len(part) for part in found] == [720, 180, 100]
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(1000))
    for part, again, other in zip(found, parts(1000, 0), parts(1000, 1), strict=True):
        np.testing.assert_array_equal(part, again)
        assert not np.array_equal(part, other) and (np.diff(part) > 0).all()
    assert abs(found[2].mean() - 500) < 100


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="9 rows cannot be cut"):
        parts(9, 0)


def test_the_mark_of_missing_numbers_is_the_models():
    assert int(MISSING) == clicks.MISSING


def table(n=500):
    rows = np.random.default_rng(0).integers(0, 100, (n, 6)).astype(np.int32)
    return Table("some", rows, np.arange(0, n, 2, dtype=np.int32), 2, 100)


@pytest.mark.parametrize("steps", [range(30), (7, 7, 8, 3, 29, 0, 12)])
def test_a_streamed_step_is_a_function_of_seed_and_step(steps):
    held, batch = table(), 32
    source = gathered.Gathered(held, 5, batch, jax.device_put)
    for step in steps:
        for count in (1, 1 + step % 9):
            steps = [indices(5, s, held.size, batch) for s in range(step, step + count)]
            found = source(step, count)
            np.testing.assert_array_equal(found["rows"], held.rows[held.places][np.stack(steps)])
            assert found["first"] == step
    source.close()


def test_orders_are_those_of_the_epochs_asked_in_any_order():
    found = Orders(3, 100)
    for epoch in (0, 1, 1, 5, 2):
        np.testing.assert_array_equal(found(epoch), epoch_order(3, epoch, 100))
    found.close()


def test_a_stream_says_what_went_wrong_in_its_threads():
    held = table()
    broken = held._replace(places=held.places + 10_000)
    with pytest.raises(IndexError):
        gathered.Gathered(broken, 0, 32, jax.device_put)(0)


@pytest.mark.parametrize("batch", [1, 7, 250, 1000])
def test_each_row_is_evaluated_once(batch):
    held = table()
    found = list(gathered.held(held, batch, lambda x: x))
    rows = np.concatenate([rows[weight > 0] for rows, weight in found])
    np.testing.assert_array_equal(rows, held.rows[held.places])
    assert all(len(rows) == batch for rows, _ in found)


def test_adult_is_read_as_it_is_written(data_root):
    found = read("adult", data_root)
    assert [part.size for part in found.values()] == [23_445, 5_860, 3_256]
    rows, train = found["train"].rows, found["train"]
    assert rows.shape == (32_561, 15) and train.numbers == 6 and train.entries == 107
    assert rows[0, :7].tolist() == [0, 39, 77_516, 13, 2174, 0, 40]
    assert abs(rows[:, 0].mean() - 0.2408) < 1e-4
    starts = [0, 9, 26, 34, 49, 56, 62, 65, 107]
    for column, start, end in zip(rows[:, 7:].T, starts, starts[1:], strict=False):
        assert start <= column.min() and column.max() == end - 1


ADULT = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, "
)
ADULT += "2174, 0, 40, United-States, <=50K\n"
BAD = {
    "columns": (ADULT + ADULT[4:], "line 2: 14 columns instead of 15"),
    "label": (ADULT + ADULT.replace("<=50K", "<=50K."), "line 2: the label is '<=50K.'"),
    "number": (ADULT.replace("77516", "many"), "line 1: a number among"),
    "empty": ("", "has no rows"),
    "encoding": (ADULT.replace("White", "Weiß"), "expected comma-separated ASCII"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_of_adult_are_refused(tmp_path, case):
    text, words = BAD[case]
    (tmp_path / "adult").mkdir()
    (tmp_path / "adult" / "adult.data").write_text(text)
    with pytest.raises(ValueError, match=words):
        read("adult", tmp_path)


def test_another_validation_share_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cut 72:18:10 once and for all: take 0.18"):
        read("adult", tmp_path, 0.1)


def test_a_batch_is_inputs_and_labels():
    rows = jax.numpy.asarray(table().rows[:4])
    found = tables.batch(rows)
    assert found["image"].shape == (4, 5) and found["label"].tolist() == rows[:, 0].tolist()
