"""What a launch does with checkpoints that are damaged, or not its own: the one before, or an error in words."""

import json
import shutil

import pytest

from experiments.running.launch import Session, launch
from experiments.running.workdir import Workdir, write
from sparsity.train import checkpoint, log, sums

RUN = {"steps": 30, "save_every": 8, "log_every": 5}


@pytest.fixture(scope="module")
def whole(config_of, tmp_path_factory):
    """The config and the directory of a run that was never stopped; it has saved steps 16 and 24."""
    config, run = config_of(**RUN), Workdir(tmp_path_factory.mktemp("whole") / "run")
    launch(config, run.path, Session(say=lambda text: None))
    return config, run


@pytest.fixture
def killed(whole, tmp_path):
    """The same as it was just before its end."""
    run = Workdir(shutil.copytree(whole[1].path, tmp_path / "run"))
    for path in (run.summary, run.path / "model.safetensors", run.path / "model.json"):
        path.unlink()
    return run


def flip(folder, name):
    raw = bytearray((folder / name).read_bytes())
    raw[len(raw) // 3] ^= 1
    (folder / name).write_bytes(raw)


@pytest.mark.parametrize("name", ["tree.json", "extra.json", sums.SUMS])
def test_a_damaged_checkpoint_is_passed_over_and_said_and_the_run_ends_with_the_same_bits(
    whole, killed, name
):
    config, said = whole[0], []
    flip(killed.checkpoints / "24", name)
    launch(config, killed.path, Session(say=said.append))
    assert f"the checkpoint of step 24 is damaged: {name} has changed since it was saved" in said
    assert f"{killed.path}: going on from step 16" in said
    for file in ("metrics.jsonl", "model.safetensors", "model.json"):
        assert (killed.path / file).read_bytes() == (whole[1].path / file).read_bytes(), file
    assert sums.damage(killed.checkpoints / "24") == ""  # it was saved again


def refused(config, run):
    """Why a launch is refused; nothing that the run has is changed by it."""
    before = {path: path.read_bytes() for path in run.checkpoints.rglob("*") if path.is_file()}
    metrics, said = run.metrics.read_bytes(), []
    with pytest.raises(ValueError) as error:
        launch(config, run.path, Session(say=said.append))
    assert {path: path.read_bytes() for path in before} == before
    assert run.metrics.read_bytes() == metrics and not run.summary.exists()
    assert not any("going on" in text for text in said)
    return str(error.value)


def test_where_all_checkpoints_are_damaged_each_is_named_and_nothing_is_restored(whole, killed):
    flip(killed.checkpoints / "16", "tree.json")
    (killed.checkpoints / "24" / "extra.json").unlink()
    words = refused(whole[0], killed)
    assert f"no checkpoint to restore in {killed.checkpoints}" in words
    assert "step 24 is damaged: extra.json is missing" in words
    assert "step 16 is damaged: tree.json has changed" in words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"density": "0.2"}, "density: '0.1' there, '0.2' asked"),
        ({"seed": 5}, "seed: 0 there, 5 asked"),
        ({"model__widths": (128, 256)}, "expected float32[128], found float32[256]"),
    ],
)
def test_checkpoints_of_another_run_are_refused_with_the_difference(
    killed, config_of, changes, words
):
    config = config_of(**RUN, **changes)
    write(killed.config, config)  # its own directory, into which they were put
    assert words in refused(config, killed)


def test_a_later_format_is_refused_and_no_older_checkpoint_taken_in_its_place(whole, killed):
    sums.seal(killed.checkpoints / "24", checkpoint.FORMAT + 1)
    assert f"of format {checkpoint.FORMAT + 1} and this version reads" in refused(whole[0], killed)


def test_a_checkpoint_that_no_launch_has_saved_is_refused(whole, killed):
    (killed.checkpoints / "24" / "extra.json").write_text('{"acts": "many"}')
    sums.seal(killed.checkpoints / "24", checkpoint.FORMAT)
    assert "was not saved by a launch: it lacks acts" in refused(whole[0], killed)


def test_a_record_that_is_none_is_refused_with_its_line(killed):
    lines = killed.metrics.read_text().splitlines(keepends=True)
    for line in ("{", "[1]", "3", '{"event": "train"}', "[" * 99_999):
        killed.metrics.write_text("".join([lines[0], f"{line}\n", *lines[1:]]))
        with pytest.raises(ValueError, match="line 2 of .*metrics.jsonl is damaged"):
            list(log.read(killed.metrics))


def test_damaged_metrics_are_said_and_keep_no_run_from_its_end(whole, killed):
    killed.metrics.write_bytes(b"?" + killed.metrics.read_bytes()[1:])
    config, said = whole[0], []
    summary = launch(config, killed.path, Session(say=said.append, events=True))
    assert any("line 1 of" in text and "is damaged" in text for text in said)
    assert summary["loss"] == json.loads(whole[1].summary.read_text())["loss"]
