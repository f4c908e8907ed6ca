"""Configs that cannot run are refused in words, before step 0, and nothing is written."""

import numpy as np
import pytest

from experiments.running.launch import Session, launch
from sparsity.train import checkpoint
from sparsity.train.sums import seal

MAGNITUDE, ONE_SHOT = "magnitude,plan=gradual", "magnitude,plan=one_shot"
ACDC, PHASES = "magnitude,plan=acdc", "magnitude,plan=phases"
LASSO = {"name": "identity", "strength": 0.1, "form": "plain", "p": 0.5}
PROXIMAL = {**LASSO, "form": "proximal"}
NAN = float("nan")


def rule(**fields):
    """Changes that add a rule for the first kernel."""
    return {"blocks__rules": [{"pattern": "params/dense1/kernel", "block": (8, 8), **fields}]}


def phase(**fields):
    """Changes that make the plan of one phase."""
    return {"plan__phases": [{"kind": "sparse", "length": "100%", **fields}]}


NAMES = [
    (MAGNITUDE, {"method__name": "magnitud"}, "no method .* did you mean 'magnitude'.*powerprop"),
    (MAGNITUDE, {"plan__name": "gradul"}, "no plan .* did you mean 'gradual'.* acdc"),
    (MAGNITUDE, {"model__name": "mpl"}, "no model .* did you mean 'mlp'.*resnet20"),
    (MAGNITUDE, {"data__name": "digit"}, "no data set .* did you mean 'digits'.*tfds:NAME"),
    (MAGNITUDE, {"optimizer__name": "sdg"}, "no optimizer .* did you mean 'sgd'.*adamw"),
    (MAGNITUDE, {"optimizer__schedule": "cosin"}, "no schedule .* did you mean 'cosine'"),
    (MAGNITUDE, {"plan__ramp": "cubik"}, "no ramp .* did you mean 'cubic'.*exponential"),
    (MAGNITUDE, {"plan__dead": "zeroes"}, "'dead' .* did you mean 'zeroed'"),
    (MAGNITUDE, {"penalty": {**LASSO, "name": "identty"}}, "no penalty .*identity.*log1p"),
    (MAGNITUDE, {"penalty": {**LASSO, "form": "proximl"}}, "no form .* did you mean 'proximal'"),
    (MAGNITUDE, {"method__score": "maxi"}, "no score .* did you mean 'max'.*saliency"),
    ("grid", {"method__score": "fischer"}, "no score .* did you mean 'fisher'.*attention"),
    ("grid", {"method__mask": "softmx"}, "no mask .* did you mean 'softmax'.*hoff"),
    ("random", {"method__select": "global"}, "no selection .* did you mean 'globally'"),
    ("powerprop", {"method__form": "blok"}, "form in .'block', 'weight'.*'blok'"),
    (PHASES, phase(kind="spars"), "no phase .* did you mean .*sparse"),
    (PHASES, phase(reset="restart"), "'reset' .* did you mean 'restarted'"),
    (PHASES, phase(frozen=["gates/*"]), "no leaf to freeze .*params/params/dense1/bias"),
]
SETTINGS = [
    (MAGNITUDE, {"sed": 0}, "field of the config .* did you mean 'seed'"),
    (MAGNITUDE, {"data__rot": ""}, "field of the section 'data' .* did you mean 'root'"),
    (MAGNITUDE, {"model__width": (8,)}, "keyword of the model .* did you mean 'widths'"),
    (MAGNITUDE, {"blocks__blok": 8}, "field of the section 'blocks' .* did you mean 'block'"),
    (MAGNITUDE, {"method__scroe": "l1"}, "setting of the method .* did you mean 'score'"),
    (MAGNITUDE, {"plan__rmap": "cubic"}, "setting of the plan .* did you mean 'ramp'"),
    (MAGNITUDE, {"penalty__strenght": 1}, "section 'penalty' .* did you mean 'strength'"),
    (MAGNITUDE, {"optimizer__momentun": 0.9}, "section 'optimizer' .* did you mean 'momentum'"),
    (MAGNITUDE, {"optimizer__steps": 9}, "field of the section 'optimizer' is called 'steps'"),
    (MAGNITUDE, {"optimizer__b1": 0.9}, "sgd has no use for it.*it takes momentum"),
    (MAGNITUDE, {"plan__ramp": {"name": "exponential", "k": 2}}, "'exponential' is called 'k'.* c"),
    (PHASES, phase(lrr=1), "setting of a phase .* did you mean 'lr'"),
    (MAGNITUDE, rule(densty=1), "setting of a rule of blocks .* did you mean 'density'"),
    (MAGNITUDE, {"method": {"score": "l1"}}, "section 'method' lacks the field 'name'"),
    (MAGNITUDE, {"penalty": {"name": "none"}}, "section 'penalty' lacks the field 'form'.*base.py"),
]
TYPES = [
    (MAGNITUDE, {"seed": "a"}, "seed is an integer of 0 or more, not 'a'"),
    (MAGNITUDE, {"seed": 1.5}, "seed is an integer of 0 or more, not 1.5"),
    (MAGNITUDE, {"seed": True}, "seed is an integer of 0 or more, not True"),
    (MAGNITUDE, {"seed": -1}, "seed is an integer of 0 or more, not -1"),
    (MAGNITUDE, {"seed": 2**32}, "seed is below 2..32, not 4294967296"),
    (MAGNITUDE, {"seed": {1}}, "a config is plain data"),
    (MAGNITUDE, {"steps": 0}, "steps is an integer of 1 or more, not 0"),
    (MAGNITUDE, {"batch": -1}, "batch is an integer of 1 or more, not -1"),
    (MAGNITUDE, {"batch": 5000}, "batch of 5000 is larger than the training set of 1442"),
    (MAGNITUDE, {"save_every": "9"}, "save_every is an integer of 0 or more, not '9'"),
    (MAGNITUDE, {"settle": -1}, "settle is an integer of 0 or more, not -1"),
    (MAGNITUDE, {"label_smoothing": 1}, r"label_smoothing is in \[0, 1\), not 1"),
    (MAGNITUDE, {"density": 0}, "density 0 is not a number in .* a sparsity of 90% is a density"),
    (MAGNITUDE, {"density": 1.5}, "density 1.5 is not a number in"),
    (MAGNITUDE, {"density": "abc"}, "density 'abc' is not a number in"),
    (MAGNITUDE, {"density": None}, "density None is not a number in"),
    (MAGNITUDE, {"density": NAN}, "density nan is not a number in"),
    (MAGNITUDE, {"data__augment": 1}, "data.augment is True or False, not 1"),
    (MAGNITUDE, {"data__root": 7}, "data.root is a text, not 7"),
    (MAGNITUDE, {"data__validation": "0.1"}, "data.validation is a number of 0 or more, not '0.1'"),
    (MAGNITUDE, {"data__validation": 1.5}, "held out lies between 0 and 1, not at 1.5"),
    (MAGNITUDE, {"model__widths": 8}, "tuple of positive whole numbers, not 8"),
    (MAGNITUDE, {"model__dtype": "float16"}, "did you mean 'bfloat16'"),
    ("magnitude,model=cnn", {"model__widths": (4,) * 4}, "cannot be halved 4 times: .*at most 3"),
    (MAGNITUDE, {"optimizer__clip": "1"}, "clip is a float or None, not '1'"),
    (MAGNITUDE, {"optimizer__clip": -1}, "clip=-1: expected a positive norm, or None"),
    (MAGNITUDE, {"optimizer__momentum": "a"}, "momentum is a float or None, not 'a'"),
    (MAGNITUDE, {"optimizer__nesterov": "yes"}, "nesterov is a bool or None, not 'yes'"),
    (MAGNITUDE, {"optimizer__learning_rate": 0}, "learning_rate=0: expected a positive number"),
    (MAGNITUDE, {"optimizer__learning_rate": "x"}, "learning_rate is a float, not 'x'"),
    (MAGNITUDE, {"optimizer__warmup": 40}, "warmup=40 of steps=40: expected 0 <= warmup < steps"),
    (MAGNITUDE, {"optimizer__schedule": [1, 2]}, "a name or a list of .progress, factor., not"),
    (MAGNITUDE, {"optimizer__schedule": [[2, 0.1]]}, "0 < progress < 1"),
    (MAGNITUDE, {"penalty__strength": 1}, "penalty.strength is 1 but penalty.name is 'none'"),
    (
        MAGNITUDE,
        {"penalty": {**LASSO, "strength": -1}},
        "strength is a number of 0 or more, not -1",
    ),
    (MAGNITUDE, {"penalty": {**LASSO, "strength": NAN}}, "strength is a number of 0 or more"),
    (MAGNITUDE, {"penalty": {**LASSO, "name": "power", "p": 2}}, "expected 0 < p < 1"),
    (MAGNITUDE, {"method__batches": 0}, "method.batches is 1 or more, not 0"),
    ("powerprop", {"method__alpha": "2"}, "alpha is a float, not '2'"),
    ("powerprop", {"method__alpha": 0.5}, "alpha >= 1 .* not 0.5"),
    ("sequential_attention", {"method__clip": "yes"}, "clip is a bool, not 'yes'"),
    (MAGNITUDE, {"method": "magnitude"}, "section 'method' is a mapping with .*name.* not 'magn"),
    (MAGNITUDE, {"blocks": None}, "section 'blocks' is a mapping with at_least, block, rules"),
]
BLOCKS = [
    (MAGNITUDE, rule(block=(128, 8)), r"dense1/kernel: .*\(128, 8\) is larger .*\(64, 256\); take"),
    (MAGNITUDE, {"blocks__block": (300, 300)}, "no layer is cut .*smaller blocks(.|\n)*less than"),
    (MAGNITUDE, {"blocks__block": (1, 2, 3)}, "block .1, 2, 3. is not two positive integers"),
    (MAGNITUDE, {"blocks__block": (0, 8)}, "block .0, 8. is not two positive integers"),
    (MAGNITUDE, {"blocks__block": ("a", "b")}, "block .'a', 'b'. is not two positive integers"),
    (MAGNITUDE, {"blocks__block": 8}, "block 8 is not two positive integers"),
    (MAGNITUDE, {"blocks__block": None}, "no layer is cut into blocks"),
    (MAGNITUDE, {"blocks__at_least": 5000}, "lower blocks.at_least(.|\n)*256 blocks, fewer than"),
    (MAGNITUDE, {"blocks__at_least": "5"}, "blocks.at_least is an integer of 0 or more, not '5'"),
    (MAGNITUDE, {"blocks__rules": "dense1"}, "blocks.rules is a list of mappings, not 'dense1'"),
    (MAGNITUDE, {"blocks__rules": ["dense1"]}, "is a mapping with pattern, .*, not 'dense1'"),
    (MAGNITUDE, {"blocks__rules": [{"block": (8, 8)}]}, "needs the setting 'pattern'"),
    (MAGNITUDE, rule(pattern="params/dense3/*"), "matches no parameter(.|\n)*dense2/kernel .256"),
    (MAGNITUDE, rule(pattern=7), "pattern is a str, not 7"),
    (
        MAGNITUDE,
        rule(rows=(0,), cols=(0,)),
        r"rows \(0,\) and cols \(0,\) must name each axis once",
    ),
    (MAGNITUDE, rule(rows=("a",)), "rows of a rule of blocks is a list of axes"),
    (MAGNITUDE, rule(batch=1), "batch of a rule of blocks is a list of axes .* not 1"),
    (MAGNITUDE, rule(at_least="a"), "at_least of a rule of blocks is an integer or None"),
    (MAGNITUDE, rule(density=2), "density 2 is not a number in"),
    (MAGNITUDE, {"density": "0.001"}, "dense1/kernel: .* none of its 256 units.*raise its density"),
    (MAGNITUDE, rule(density="0.003"), "dense1/kernel: a density of 0.003 keeps none"),
]
PLANS = [
    (MAGNITUDE, {"plan__train": "20"}, "a length is like '10%', '8ep' or '500it', not '20'"),
    (MAGNITUDE, {"plan__train": 20}, "train is a str, not 20"),
    (MAGNITUDE, {"plan__train": "-20%"}, "a length is like .* not '-20%'"),
    (MAGNITUDE, {"plan__every": "often"}, "a length is like .* not 'often'"),
    (MAGNITUDE, {"plan__sparsify": "30%"}, "add up to 32 of 40 steps .80% .*sparsify 30%"),
    (ONE_SHOT, {"plan__finetune": "20%"}, "add up to 42 of 40 steps .105% of the run"),
    (ACDC, {"plan__cycles": "7"}, "cycles is a int, not '7'"),
    (ACDC, {"plan__cycles": 3}, "add up to .* of 40 steps"),
    (ACDC, {"steps": 10}, "the sparse phase of '5%' has no step in a run of 10"),
    ("magnitude,plan=dense", {}, "ends in a dense phase .* end it with a sparse or finetune phase"),
    (
        PHASES,
        phase(kind="sparsify", share=(0, 0.5)),
        "ends in a sparsify phase at 0.5 of the target",
    ),
    (PHASES, phase(share=(0.5, 1)), "keeps its masks; shares that move need a sparsify phase"),
    (PHASES, phase(kind="sparsify", share="all"), "share is .from, to.* not 'all'"),
    (PHASES, phase(lr="1"), "lr a positive number"),
    (PHASES, {"plan__phases": 7}, "plan.phases is a list of mappings, not 7"),
    (PHASES, {"plan__phases": ["dense"]}, "a phase is a mapping with 'kind' and 'length'"),
    (
        PHASES,
        {"plan__phases": [{"kind": "dense"}]},
        "a phase is a mapping with 'kind' and 'length'",
    ),
    (PHASES, {}, "the plan has no phase"),
]
PAIRS = [
    ("dense", {"density": "0.1"}, "'dense' prunes nothing: give it a density of 1"),
    ("powerprop,plan=acdc", {}, "zeroes dead weights and revives them.*take dead='kept'"),
    (
        "sequential_attention",
        {"penalty": PROXIMAL},
        "trains others.*take the form 'plain' or 'outer'",
    ),
    ("powerprop", {"penalty": PROXIMAL}, "trains others in their place"),
    (
        MAGNITUDE,
        {"penalty": {**PROXIMAL, "name": "lambert"}},
        "no proximal step.*Add the penalty to",
    ),
    (MAGNITUDE, {"penalty": {**PROXIMAL, "name": "power", "p": 0.3}}, "no proximal step.*p = 1/2"),
    ("grid", {"method__score": "attention"}, "attention ranks by a mask's own numbers"),
    (
        "grid",
        {"method__score": "attention", "method__mask": "softmax", "method__select": "globally"},
        "different softmaxes share no scale",
    ),
    ("grid", {"method__clip": True}, "clip belongs to the softmax mask"),
    ("grid", {"method__mask_penalty": "l1"}, "mask_penalty needs a mask with numbers of its own"),
    (
        MAGNITUDE,
        {"method__select": "globally", "method__floor": 100},
        "a floor of 100 units per layer needs 200 units and the density keeps 127",
    ),
    (
        MAGNITUDE,
        {"method__select": "globally", "method__floor": -1},
        "method.floor is 0 or more, not -1",
    ),
]
DEVICES = [
    (MAGNITUDE, {"device": "gpux"}, "device is one of cpu, gpu, tpu, or '' .*, not 'gpux'"),
    (MAGNITUDE, {"device": "tpu"}, "there is no tpu here, only: cpu; set device to it"),
    (MAGNITUDE, {"devices": 0}, "devices is an integer of 1 or more, not 0"),
    (MAGNITUDE, {"devices": 9}, "devices is 9, but this process sees 8 of cpu; take as many"),
    (MAGNITUDE, {"devices": 3}, "a batch of 128 does not divide over 3 devices; take 126 or 129"),
    (MAGNITUDE, {"devices": 8, "batch": 4}, "batch of 4 does not divide over 8 .* take 8 or 8"),
    (MAGNITUDE, {"mesh__fsdp": 0}, "mesh.fsdp is an integer of 1 or more, not 0"),
    (
        MAGNITUDE,
        {"devices": 8, "mesh__fsdp": 3, "mesh__model": 2},
        "devices is 8, which mesh.fsdp 3 x mesh.model 2 do not divide; take 24",
    ),
    (
        MAGNITUDE,
        {"devices": 8, "mesh__model": 2, "batch": 6},
        "a batch of 6 does not divide over 4 devices; take 4 or 8",
    ),
    (
        MAGNITUDE,
        {"mesh__rules": ({"pattern": "*", "axes": (None, "model")},)},
        "mesh.fsdp and mesh.model are 1: no device shares them",
    ),
    (
        MAGNITUDE,
        {"devices": 2, "mesh__model": 2, "mesh__rules": ({"pattern": "*", "axis": "model"},)},
        "has in `axes` one axis of the mesh, or None, per axis of a weight, not None",
    ),
    (
        MAGNITUDE,
        {"devices": 2, "mesh__model": 2, "mesh__rules": ({"pattern": "x*", "axes": ("model",)},)},
        "'x\\*' of mesh.rules matches no parameter; there are:",
    ),
]
TABLE = [*NAMES, *SETTINGS, *TYPES, *BLOCKS, *PLANS, *PAIRS, *DEVICES]


@pytest.mark.parametrize(("argument", "changes", "words"), TABLE)
def test_a_config_that_cannot_run_is_refused_before_anything_is_written(
    argument, changes, words, config_of, tmp_path
):
    config = config_of(argument, **changes)
    refused(config, words, ValueError, tmp_path)


def refused(config, words, error, folder):
    """Neither makes a directory nor touches one that is there."""
    there = folder / "there"
    there.mkdir()
    (there / "metrics.jsonl").write_text("{}\n")
    for place in (folder / "new", there):
        with pytest.raises(error, match=words):
            launch(config, place, Session(say=lambda text: None))
    assert sorted(path.name for path in folder.rglob("*")) == ["metrics.jsonl", "there"]
    assert (there / "metrics.jsonl").read_text() == "{}\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnist", "train-images-idx3-ubyte or .gz.*Download .* put them into"),
        ("cifar10", "data_batch_1.bin.*Download .*cifar-10-binary.tar.gz and unpack it in"),
        ("tfds:nothing", "Prepare it with tfds.builder"),
    ],
)
def test_a_set_that_is_absent_says_what_to_download_and_where(name, words, config_of, tmp_path):
    root = tmp_path / "data"
    config = config_of(data__name=name, data__root=str(root))
    refused(config, f"{words}.*{root}|{root}.*{words}", FileNotFoundError, _folder(tmp_path))


def _folder(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def mnist_like(root, height=6, cut=0):
    """Files of 20 black images, those of the test set of another height, each short of `cut` bytes."""
    (root / "mnist").mkdir()
    for stem, rows in (("train", 6), ("t10k", height)):
        images, labels = np.zeros((20, rows, 5), np.uint8), np.zeros(20, np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            sizes = np.array(array.shape, ">u4").tobytes()
            data = bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()
            (root / "mnist" / f"{stem}-{kind}-ubyte").write_bytes(data[: len(data) - cut])


def test_a_data_file_that_is_cut_short_is_named_with_the_bytes_it_lacks(config_of, tmp_path):
    mnist_like(tmp_path, cut=9)
    config = config_of(data__name="mnist", data__root=str(tmp_path), batch=10)
    refused(config, "train-images.* expected 616 bytes .* found 607", ValueError, _folder(tmp_path))


def test_an_evaluation_set_of_another_shape_is_refused_with_both_shapes(config_of, tmp_path):
    mnist_like(tmp_path, height=7)
    config = config_of(data__name="mnist", data__root=str(tmp_path), batch=10)
    words = r"training images are \(6, 5, 1\) .* test images \(7, 5, 1\)"
    refused(config, words, ValueError, _folder(tmp_path))


def files_of(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


DIRECTORIES = [
    ("config.json", '{"seed": 0}', ValueError, "belongs to another config(.|\n)*and [0-9]+ more"),
    ("config.json", "{", ValueError, "config.json is damaged, it holds no JSON"),
    ("summary.json", "{}", ValueError, "belongs to another config"),
    ("status.json", "[", ValueError, "status.json is damaged, it holds no JSON"),
]


@pytest.mark.parametrize(("name", "text", "error", "words"), DIRECTORIES)
def test_a_directory_that_cannot_be_this_runs_is_left_as_it_was(
    name, text, error, words, config_of, tmp_path
):
    (tmp_path / "config.json").write_text('{"seed": 1}')
    (tmp_path / name).write_text(text)
    before = files_of(tmp_path)
    with pytest.raises(error, match=words):
        launch(config_of(), tmp_path, Session(say=lambda text: None))
    assert {**files_of(tmp_path), "lock": ""} == {**before, "lock": ""}


def test_a_directory_that_cannot_be_made_says_why(config_of, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match="Not a directory; the run's directory must be one that can be"
    ):
        launch(config_of(), tmp_path / "file" / "run", Session(say=lambda text: None))


def test_a_checkpoint_of_a_later_format_is_refused_and_kept(config_of, tmp_path):
    config = config_of(save_every=20)
    launch(config, tmp_path, Session(say=lambda text: None))
    (tmp_path / "summary.json").unlink()
    saved = tmp_path / "checkpoints" / "20"
    seal(saved, checkpoint.FORMAT + 1)
    before = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="is of format 2 and this version reads format 1: take a"):
        launch(config, tmp_path, Session(say=lambda text: None))
    assert {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()} == before
