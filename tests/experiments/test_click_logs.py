"""From a generated text to a sparse network: prepared, trained, judged, wherever the rows lie."""

import json
import runpy

import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from experiments.assembly.assemble import assemble
from experiments.running.evaluate import evaluation
from experiments.running.launch import launch
from sparsity.data import tables
from sparsity.data.criteo import planted
from sparsity.data.criteo.prepare import Order, prepare
from sparsity.data.criteo.stages import Coding
from sparsity.surgery import export
from sparsity.target import final_context


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "criteo_generated"
    folder.mkdir()
    (folder / "train.txt").write_bytes(b"".join(planted.text(0, 6000)))
    prepare(Order(folder / "train.txt", folder, Coding(5), workers=1))
    return folder.parent


def config(root, argument="sequential_attention", **fields):
    made = runpy.run_path("configs/criteo.py")["get_config"](argument)
    made.data.name, made.data.root = "criteo_generated", str(root)
    made.batch, made.steps, made.density = 128, 100, "0.05"
    made.model.widths = (40, 20)
    made.log_every, made.evaluate_every, made.save_every = 50, 0, 0
    made.update_from_flattened_dict(fields)
    return json.loads(made.to_json())


def ran(folder, plain):
    summary = launch(plain, folder)
    return summary, (folder / "model.safetensors").read_bytes()


def test_streamed_rows_train_the_same_bits(root, tmp_path):
    plan = "magnitude,plan=gradual"
    resident, same = ran(tmp_path / "resident", config(root, plan))
    streamed, bits = ran(tmp_path / "streamed", config(root, plan, **{"data.stream": True}))
    assert bits == same
    assert [streamed[k] for k in ("loss", "auc")] == [resident[k] for k in ("loss", "auc")]


def test_the_exported_network_has_the_reported_auc_and_sparsity(root, tmp_path):
    plain = config(root, "magnitude,plan=one_shot", steps=200)
    summary, _ = ran(tmp_path / "run", plain)
    experiment = assemble(plain)
    params, masks, _ = export.read(tmp_path / "run")
    test = experiment.sets.test
    rows = np.asarray(test.rows[test.places])
    logits = experiment.shared.model.apply(params, {}, rows[:, 1:])[0]
    assert summary["auc"] == pytest.approx(roc_auc_score(rows[:, 0], logits), abs=1e-9)
    assert summary["auc"] > 0.55 and test.size == tables.shares(6000)[1]
    (mask,) = masks.values()
    assert summary["achieved_sparsity"] == 1 - mask.mean() >= 0.95


def test_a_part_of_one_label_has_no_area(root, tmp_path):
    experiment = assemble(config(root, "dense", density="1"))
    table = experiment.sets.test
    clicks = table.places[table.rows[table.places, 0] == 1]
    held = table._replace(places=clicks)
    sets = experiment.sets._replace(test=held, resident_test=experiment.sets.kind.resident(held))
    state = experiment.shared.programs.create(jax.random.key(0), experiment.inputs)
    context = final_context(experiment.target, experiment.plan)
    scores = evaluation(experiment._replace(sets=sets))(state, context)
    assert scores.keys() == {"loss", "accuracy"} and scores["loss"] > 0


def test_streaming_images_and_augmenting_tables_are_refused(root):
    with pytest.raises(ValueError, match="data.augment crops and flips images"):
        assemble(config(root, **{"data.augment": True}))
    images = {"data.name": "digits", "data.stream": True, "data.validation": 0.0}
    with pytest.raises(
        ValueError, match="no streamed data set is called 'digits'.*folder:NAME, criteo"
    ):
        assemble(config(root, **images))
    with pytest.raises(ValueError, match="'clicks' reads data with entries and numbers"):
        assemble(config(root, **images | {"data.stream": False}))
