"""A run whose pictures are streamed keeps the promises of one whose pictures lie on the device."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from configs import digits, imagenet
from experiments.assembly import streaming
from experiments.assembly.assemble import assemble, feed
from experiments.assembly.dry_run import described
from experiments.assembly.sets import held
from experiments.running.launch import Session, launch
from experiments.running.preemption import Preempted, Stop
from sparsity.data import indices
from sparsity.data.cifar import read_batch
from tests.data import photographs

N, SCORED = photographs.SIZES["train"], photographs.SIZES["val"]
SMALL = {"widths": [4, 8], "hidden": [16]}
QUIET = Session(say=lambda text: None)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    photographs.write_folder(path)
    return path


@pytest.fixture
def config(root):
    return small(root)


def small(root, argument="magnitude,plan=static", **changes):
    """A small network on small photographs: plain data."""
    config = digits.get_config(f"{argument},model=cnn").to_dict()
    data = {"name": "folder:photographs", "root": str(root), "side": 16, "workers": 2}
    config["data"] |= data | {"stream": True, "augment": True}
    config["model"] |= SMALL
    config["blocks"] |= {"block": [4, 4], "at_least": 4}
    config |= {"steps": 6, "batch": 4, "density": "0.5"} | changes
    return json.loads(json.dumps(config))


def bits(folder):
    return (folder / "model.safetensors").read_bytes()


def test_a_window_holds_the_batches_of_its_steps(config):
    experiment = assemble(config)
    source = feed(experiment)
    for step, count in ((0, 1), (0, 3), (1, 2), (2, 1), (7, 1), (3, 2), (3, 1)):
        window = source(step, count)
        assert window["image"].shape == (count, 4, 16, 16, 3) and int(window["first"]) == step
        stream = experiment.sets.train
        expected = [batch["image"] for batch in stream.training(0, step, step + count, 4)]
        np.testing.assert_array_equal(window["image"], expected)
    source.close()
    assert int(source(5)["first"]) == 5  # closed, it begins anew
    source.close()


def test_a_program_draws_the_batch_of_its_step_standardised(config):
    experiment = assemble(config)
    source = feed(experiment)
    window = source(4, 2)
    for step in (4, 5):
        batch = streaming.draw(experiment.placement, window, step, jax.random.key(0))
        pictures = experiment.sets.train.pictures
        assert batch["label"].tolist() == [pictures[int(i)].label for i in indices(0, step, N, 4)]
        pixels = np.asarray(window["image"][step - 4], float) / 255
        expected = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        np.testing.assert_allclose(batch["image"], expected, atol=1e-5)
    source.close()


def judged(experiment):
    return list(held(experiment.sets, experiment.placement)())


def test_an_evaluation_counts_every_picture_once(config):
    batches = judged(assemble(config))
    assert sum(float(batch["weight"].sum()) for batch in batches) == SCORED
    assert sum(len(batch["weight"]) for batch in batches) % 512 == 0


class After(Stop):
    """Asks to end at the n-th check."""

    def __init__(self, checks):
        super().__init__()
        self.left = checks

    def check(self):
        self.left -= 1
        if self.left < 0:
            raise Preempted("enough")


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["grid,plan=gradual"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(root, tmp_path, argument):
    """Under a score that looks at three batches ahead, with the statistics settled over two."""
    config = small(root, argument, settle=2, steps=12)
    config["method"] |= {"score": "fisher", "batches": 3}
    config["plan"] |= {"every": "20%"}
    whole = launch(config, tmp_path / "whole", QUIET)
    ends = 0
    for checks in (6, 9, 14, 10**6):
        try:
            summary = launch(config, tmp_path / "stopped", QUIET._replace(stop=After(checks)))
        except Preempted:
            ends += 1
    assert ends >= 2
    assert bits(tmp_path / "whole") == bits(tmp_path / "stopped")
    assert {k: summary[k] for k in ("accuracy", "loss")} == {
        k: whole[k] for k in ("accuracy", "loss")
    }


def test_two_devices_see_what_one_sees(config):
    found = []
    for devices in (1, 2):
        experiment = assemble({**config, "devices": devices})
        source = feed(experiment)
        window = source(1)
        assert len(window["image"].sharding.device_set) == devices
        found.append(
            (np.asarray(window["image"]), [np.asarray(b["image"]) for b in judged(experiment)])
        )
        source.close()
    jax.tree.map(np.testing.assert_array_equal, *found)


def write_cifar(data_root, root):
    """CIFAR-10's first pictures as JPEGs in folders of classes: 2,000 to train on, 500 to score."""
    for split, name, count in (("train", "data_batch_1.bin", 2000), ("val", "test_batch.bin", 500)):
        images, labels = read_batch(data_root / "cifar-10-batches-bin" / name)
        for number, (image, label) in enumerate(zip(images[:count], labels, strict=False)):
            path = root / "cifar" / split / f"class{label}" / f"{number:04}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, quality=95)


@pytest.mark.slow
def test_a_network_learns_from_cifars_pictures_as_jpegs(data_root, tmp_path):
    """Chance is 10%; half of the blocks are pruned on the way."""
    write_cifar(data_root, tmp_path)
    config = small(tmp_path, "magnitude,plan=gradual", steps=300, batch=64)
    config["data"] |= {"name": "folder:cifar", "side": 32, "augment": False}
    config["model"] |= {"widths": [16, 32], "hidden": [64]}
    summary = launch(config, tmp_path / "run", QUIET)
    assert summary["accuracy"] > 0.35 and summary["achieved_sparsity"] == pytest.approx(
        0.5, abs=0.01
    )


def test_imagenet_is_planned_without_its_pictures_and_not_run(tmp_path):
    """With another network, as compiling this one takes minutes."""
    config = imagenet.get_config("magnitude,plan=one_shot,model=cnn").to_dict()
    config["model"] |= SMALL | {"dtype": "float32"}
    config["blocks"]["at_least"] = 4
    config["data"] |= {"root": str(tmp_path), "side": 32}
    config |= {"batch": 16, "steps": 900}
    config["optimizer"] |= {"warmup": 5}
    text = described(json.loads(json.dumps(config)))
    assert "batches of streamed pictures, which are not here" in text
    assert "16x1000" in text
    with pytest.raises(FileNotFoundError, match=r"dataset_info.json.*download_and_prepare"):
        launch(config, tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "digits"}, "There are: tfds:NAME, folder:NAME"),
        ({"stream": False}, "set data.stream"),
        ({"name": "folder:photograph"}, "photograph/train/CLASS"),
    ],
)
def test_sets_that_do_not_stream_are_refused(config, changes, words):
    config["data"] |= changes
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        assemble(config)
