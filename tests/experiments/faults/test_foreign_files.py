"""The files of a run are data, whatever they contain: none of them is ever unpickled or run."""

import io
import os
import pickle
import shutil
import zipfile

import jax
import numpy as np
import pytest

from experiments.assembly.assemble import assemble
from experiments.running.launch import Session, launch
from experiments.running.workdir import Workdir
from sparsity.surgery import export
from sparsity.train import checkpoint, log, sums

RUN = {"steps": 20, "save_every": 8, "log_every": 5}
quiet = Session(say=lambda text: None)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def pickled(marker):
    return pickle.dumps(Bomb(marker))


def array(marker):
    file = io.BytesIO()
    np.save(file, np.array([Bomb(marker)], object), allow_pickle=True)
    return file.getvalue()


def archive(marker):
    file = io.BytesIO()
    np.savez(file, weights=np.array([Bomb(marker)], object), allow_pickle=True)
    return file.getvalue()


def checkpointed(marker):
    """As PyTorch saves: a zip that holds a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as into:
        into.writestr("archive/data.pkl", pickled(marker))
    return file.getvalue()


def program(marker):
    return f"__import__('os').mkdir({str(marker)!r})\n".encode()


BOMBS = {
    "pickle": pickled,
    "npy": array,
    "npz": archive,
    "zip": checkpointed,
    "python": program,
    "no json": lambda marker: b"[" * 100_000,
    "another json": lambda marker: b"[1]",
    "nothing": lambda marker: b"",
}


@pytest.fixture(scope="module")
def finished(config_of, tmp_path_factory):
    """A finished run's config and directory."""
    config, folder = config_of(**RUN), tmp_path_factory.mktemp("run") / "run"
    launch(config, folder, quiet)
    return config, folder


def names(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [str(path.relative_to(folder)) for path in files]


def test_the_bombs_go_off_where_they_are_unpickled(tmp_path):
    for name, load in {
        "pickle": pickle.load,
        "npy": lambda file: np.load(file, allow_pickle=True),
        "npz": lambda file: np.load(file, allow_pickle=True)["weights"],
        "zip": lambda file: pickle.loads(zipfile.ZipFile(file).read("archive/data.pkl")),
        "python": lambda file: eval(file.read()),
    }.items():
        load(io.BytesIO(BOMBS[name](tmp_path / name)))
        assert (tmp_path / name).is_dir(), name


@pytest.mark.parametrize("kind", BOMBS)
def test_no_file_of_a_run_is_more_than_data(kind, finished, tmp_path):
    config, folder = finished
    marker = tmp_path / "marker"
    for name in names(folder):
        if name.startswith("checkpoints/"):
            continue
        run = Workdir(shutil.copytree(folder, tmp_path / "run"))
        (run.path / name).write_bytes(BOMBS[kind](marker))
        read_all(config, run)  # as a finished run
        run.summary.unlink()
        read_all(config, run)  # as one that goes on
        assert not marker.exists(), name
        shutil.rmtree(run.path)


def read_all(config, run):
    """Whatever reads a run; what it can't read, it refuses in words."""
    for reader in (
        lambda: launch(config, run.path, quiet),
        lambda: export.read(run.path),
        lambda: [*log.read(run.metrics)],
    ):
        try:
            reader()
        except (ValueError, FileNotFoundError) as error:
            assert str(error)


@pytest.mark.parametrize("kind", BOMBS)
def test_no_file_of_a_checkpoint_is_more_than_data_though_its_sums_are_right(
    kind, finished, tmp_path
):
    config, folder = finished
    experiment = assemble(config)
    like = experiment.shared.programs.create(jax.random.key(0), experiment.inputs)
    marker, step = tmp_path / "marker", checkpoint.latest(folder / "checkpoints")
    for name in names(folder / "checkpoints" / str(step)):
        copy = tmp_path / "copy"
        shutil.copytree(folder / "checkpoints" / str(step), copy / str(step))
        (copy / str(step) / name).write_bytes(BOMBS[kind](marker))
        if name != sums.SUMS:
            sums.seal(copy / str(step), checkpoint.FORMAT)
        try:
            checkpoint.restore(copy, like)
        except ValueError as error:
            assert str(step) in str(error), name
        assert not marker.exists(), name
        shutil.rmtree(copy)
