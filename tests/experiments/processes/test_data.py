"""What a run of several processes sees of its data is what one process sees."""

import pytest

from sparsity.data.criteo import planted
from sparsity.data.criteo.prepare import Order, prepare
from sparsity.data.criteo.stages import Coding
from tests.data import photographs
from tests.experiments.processes.together import agreement, whole

TIMES = ["--config.log_every=1", "--config.save_every=5", "--config.devices=2"]
pytestmark = pytest.mark.slow


def of_two_and_of_one(given, folder):
    """(largest difference of a step's loss, share of agreeing units) of two processes and of one."""
    one = whole(given, folder / "one", count=1, each=2)
    return agreement(one, whole(given, folder / "two", count=2, each=1))


def test_pictures_are_read_by_their_parts(tmp_path):
    photographs.write_folder(tmp_path)
    given = [
        "--config=configs/digits.py:magnitude,plan=gradual,model=cnn",
        "--config.data.name=folder:photographs",
        f"--config.data.root={tmp_path}",
        "--config.data.stream=True",
        "--config.data.augment=True",
        "--config.data.side=16",
        "--config.data.workers=2",
        "--config.batch=4",
        "--config.steps=12",
    ]
    difference, agreeing = of_two_and_of_one([*given, *TIMES], tmp_path)
    assert difference < 1e-3 and agreeing >= 0.99


def test_rows_of_a_table_are_gathered_by_each(tmp_path):
    folder = tmp_path / "criteo_generated"
    folder.mkdir()
    (folder / "train.txt").write_bytes(b"".join(planted.text(0, 6000)))
    prepare(Order(folder / "train.txt", folder, Coding(5), workers=1))
    given = [
        "--config=configs/criteo.py:magnitude,plan=gradual",
        "--config.data.name=criteo_generated",
        f"--config.data.root={tmp_path}",
        "--config.data.stream=True",
        "--config.batch=128",
        "--config.steps=24",
        "--config.model.widths=(40, 20)",
        "--config.density=0.1",
    ]
    difference, agreeing = of_two_and_of_one([*given, *TIMES], tmp_path)
    assert difference < 1e-3 and agreeing >= 0.99
