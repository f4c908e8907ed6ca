"""The configs are plain data, every name that their argument takes resolves, and they train for real."""

import importlib
import json
import pathlib
import pkgutil

import jax
import pytest

import sparsity.methods
from configs.base import PLAN_NAMES, PLANS, RATES
from configs.fields import check
from experiments.assembly.assemble import assemble, feed
from experiments.running.launch import Session, launch
from sparsity.models.registry import MODELS
from sparsity.named import call
from sparsity.plan.phases import parse
from sparsity.surgery import export
from sparsity.train.directions import OPTIMIZERS
from sparsity.train.loop import Run, fit

ROOT = pathlib.Path(__file__).parents[2]
NAMES = sorted({p.stem for p in (ROOT / "configs").glob("*.py")} - {"__init__", "base", "fields"})
METHODS = [module.name for module in pkgutil.iter_modules(sparsity.methods.__path__)]
SECTIONS = {"method": METHODS, "plan": PLAN_NAMES, "model": MODELS, "optimizer": OPTIMIZERS}
ARGUMENTS = [(section, name) for section, names in SECTIONS.items() for name in names]


@pytest.fixture(params=NAMES)
def module(request):
    return importlib.import_module(f"configs.{request.param}")


def plain(config):
    return json.loads(json.dumps(config.to_dict()))


@pytest.mark.parametrize(("section", "name"), ARGUMENTS)
def test_every_name_resolves_to_plain_data_whose_fields_are_all_known(module, section, name):
    config = plain(module.get_config(f"{section}={name}"))
    assert config[section]["name"] == name
    assert json.loads(json.dumps(config)) == config
    check(config)


def test_a_bare_word_is_the_method_and_words_combine(module):
    config = module.get_config("grid, plan=acdc,model=cnn,optimizer=lion")
    names = [config[section].name for section in SECTIONS]
    assert names == ["grid", "acdc", "cnn", "lion"]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("magnitud", "no method .* did you mean 'magnitude'"),
        ("plan=acdcc", "no plan .* did you mean 'acdc'"),
        ("model=resnet200", "no model .* did you mean 'resnet20'"),
        ("optimizer=adamm", "no optimizer .* did you mean 'adam'"),
        ("modle=cnn", "part of a config's argument .* did you mean 'model'"),
    ],
)
def test_a_misspelt_argument_names_its_nearest(module, argument, words):
    with pytest.raises(ValueError, match=words):
        module.get_config(argument)


@pytest.mark.parametrize("method", METHODS)
def test_the_plan_that_goes_with_a_method_adds_up_to_the_run(module, method):
    config = module.get_config(method).to_dict()
    settings = {key: value for key, value in config["plan"].items() if key != "name"}
    plan = call("the plan", PLAN_NAMES[config["plan"]["name"]], settings=settings)
    parsed = parse(plan, steps=config["steps"], steps_per_epoch=1, sparse=method != "dense")
    assert sum(phase.length for phase in parsed) == config["steps"]


def test_a_docstring_says_what_it_reproduces_what_to_expect_and_the_command(module):
    text = module.__doc__
    assert "eproduces" in text and "Expected" in text
    assert f"python -m experiments.train --config={module.__name__.replace('.', '/')}.py" in text


def test_every_method_has_a_plan_and_every_optimizer_a_rate():
    assert set(PLANS) <= set(METHODS)
    assert set(RATES) == set(OPTIMIZERS)


def test_the_mlp_on_fashion_mnist_learns_and_ends_as_sparse_as_asked(data_root, tmp_path):
    module = importlib.import_module("configs.fashion_mnist")
    config = module.get_config("magnitude")
    config.steps, config.plan.every = 40, "10%"
    config.data.root, config.data.validation = str(data_root), 0.01
    summary = launch(config.to_dict(), tmp_path, Session(say=lambda text: None))
    assert summary["accuracy"] > 0.5
    masks = export.read(tmp_path)[1]
    kept = {path: (int(mask.sum()), mask.size) for path, mask in masks.items()}
    assert kept == {"params/dense1/kernel": (78, 784), "params/dense2/kernel": (25, 256)}
    assert summary["achieved_sparsity"] == pytest.approx(
        ((1 - 78 / 784) * 784 + (1 - 25 / 256) * 256) / (784 + 256)
    )


# One block a stage in place of three compiles in a third of the time.
SHORT = (((16,),), ((32,),), ((64,),))


@pytest.mark.slow
@pytest.mark.parametrize("inner", [SHORT, None])
def test_the_resnet_on_cifar_trains_under_sequential_attention(data_root, inner):
    module = importlib.import_module("configs.cifar10")
    config = module.get_config("sequential_attention,plan=static")
    config.model.inner = inner
    config.steps, config.batch, config.data.root = 3, 8, str(data_root)
    experiment, records = assemble(plain(config)), []
    made = experiment.shared.programs
    # Without an evaluation, a program and ten thousand images more.
    run = Run(
        programs=made,
        plan=experiment.plan,
        target=experiment.target,
        source=feed(experiment),
        evaluate=lambda state, context: {},
        emit=records.append,
    )
    state = fit(run, made.create(jax.random.key(0), experiment.inputs))
    masks = state.wrapped.memory.masks
    assert {path: int(mask.sum()) for path, mask in masks.items()} == {
        path: mask.size // 10 for path, mask in masks.items()
    }
    assert {path.split("/")[1][:6] for path in masks} == {"layer2", "layer3"}
    moved = [(leaf != 0).any() for leaf in jax.tree.leaves(state.wrapped.gates)]
    assert moved and all(moved)
    assert [r["event"] for r in records] == ["tick", "train", "eval"]


def test_the_small_cnn_on_cifar_is_pruned_where_it_is_large(data_root):
    module = importlib.import_module("configs.cifar10")
    config = module.get_config("magnitude,model=cnn")
    config.data.root = str(data_root)
    assert set(assemble(plain(config)).target.partition) == {
        "params/conv2/kernel",
        "params/dense1/kernel",
    }
