"""What runs where: the measured ratio where there is one, the model elsewhere, dense wherever that is faster."""

import json
import warnings

import pytest

from sparsity.kernels import backends, choice, model, tuned
from sparsity.kernels.calls import Call
from sparsity.kernels.cpu import backend as cpu
from sparsity.kernels.explain import explain
from sparsity.kernels.geometry import geometry_of
from sparsity.kernels.layout import from_mask
from sparsity.kernels.tuned import Entry

DEVICE = tuned.device_of("cpu")
ENTRY = Entry(
    "forward", 256, (1024, 512), (16, 16), "float32", None, {0.5: 0.4, 0.1: 4.0, 0.02: 9.0}
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of tables that holds one for this device, and is the one in use."""
    (tmp_path / f"{tuned.slug(DEVICE)}.json").write_text(tuned.written([ENTRY], DEVICE))
    monkeypatch.setenv("SPARSITY_TUNED", str(tmp_path))
    tuned.table_of.cache_clear()
    yield tmp_path
    tuned.table_of.cache_clear()


needs_kernel = pytest.mark.skipif(
    bool(cpu.refusal(ENTRY.at(0.5).layout, "float32")),
    reason="there is no C++ compiler here",
)


@needs_kernel
@pytest.mark.parametrize("density", ENTRY.ratios)
def test_what_was_measured_is_expected(folder, density):
    made = choice.choose("cpu", ENTRY.at(density))
    assert made.ratio == pytest.approx(ENTRY.ratios[density], rel=1e-3)
    assert made.why.endswith(f"as measured on {DEVICE}") and made.tuned
    assert made.path == ("dense" if density == 0.5 else "sparse")


@needs_kernel
def test_between_measured_densities_the_ratio_lies_between(folder):
    ratios = [
        choice.choose("cpu", ENTRY.at(d)).ratio for d in (0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02)
    ]
    assert ratios == sorted(ratios) and ratios[0] < ratios[1] and ratios[-2] < ratios[-1]


@needs_kernel
def test_another_shape_is_corrected_by_the_nearest_measured_one(folder):
    call = ENTRY._replace(count=512, shape=(1024, 1024)).at(0.1)
    made = choice.choose("cpu", call)
    factor = 4.0 / model.predicted("cpu", ENTRY.at(0.1))
    assert made.ratio == pytest.approx(factor * model.predicted("cpu", call), rel=1e-3)
    assert "256 x 1024 x 512 in blocks of 16 x 16" in made.why and made.tuned


@needs_kernel
@pytest.mark.parametrize(
    "call",
    [
        ENTRY._replace(verb="dw").at(0.1),
        ENTRY._replace(dtype="bfloat16").at(0.1),
        ENTRY._replace(
            shape=(144, 512), geometry=geometry_of((8, 8, 16), (3, 3), (1, 1), "SAME")
        ).at(0.1),
    ],
)
def test_what_no_entry_is_like_is_left_to_the_model(folder, call):
    made = choice.choose("cpu", call)
    assert made.ratio == model.predicted("cpu", call) and "by the model of" in made.why
    assert not made.tuned


def test_a_kernel_that_would_be_slower_is_not_run(folder):
    slower, faster = ENTRY.at(0.5), ENTRY.at(0.02)
    assert choice.module_of("cpu", slower) is backends.dense
    assert (
        choice.module_of("cpu", faster) is backends.backend_of("cpu", faster.layout, "float32")[0]
    )
    said = choice.choose("cpu", slower)
    assert said.why == f"the kernel would be slower; {said.source}"
    forced = choice.module_of("cpu", slower._replace(path="sparse"))
    assert forced is backends.backend_of("cpu", slower.layout, "float32")[0]
    assert choice.module_of("cpu", faster._replace(path="dense")) is backends.dense


def test_a_layout_counts_with_its_capacity():
    calls = [
        Call("forward", 256, (64, 64), (8, 8), capacity, "float32") for capacity in (8, 64, 99)
    ]
    assert [call.density for call in calls] == [0.125, 1.0, 1.0]
    layout = from_mask([[1, 0], [0, 0]], (16, 16), (8, 8), capacity=3)
    assert (
        Call("forward", 9, layout.shape, layout.block, layout.capacity, "float32").density == 0.75
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"jax": "0.1"}, "is of {'jax': '0.1'"),
        ({"kernels": -1}, "'kernels': -1}, not"),
        ({"device": "another"}, "is of another, not"),
        ({"entries": [{"verb": "forward"}]}, "is damaged"),
        ({"entries": [ENTRY._asdict() | {"ratios": {"0.1": -1}}]}, "positive numbers"),
        ({"entries": [ENTRY._asdict() | {"verb": "backward"}]}, "a verb is one of"),
        ({"entries": [ENTRY._asdict() | {"count": 0}]}, "sizes are positive integers"),
    ],
)
def test_a_table_of_something_else_is_said_once_and_the_model_decides(folder, change, words):
    (file,) = folder.iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.warns(UserWarning, match="a model of the device decides") as caught:
        made = choice.choose("cpu", ENTRY.at(0.1))
    assert words in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choice.choose("cpu", ENTRY.at(0.1)) == made
    assert made.ratio == model.predicted("cpu", ENTRY.at(0.1))


def test_a_truncated_table_is_damaged(folder):
    (file,) = folder.iterdir()
    file.write_text(file.read_text()[:-40])
    assert "is damaged" in tuned.look_up(folder, DEVICE)[1]
    assert "no tuned table" in tuned.look_up(folder, "a device without one")[1]


def test_a_table_is_read_as_it_was_written(folder):
    geometry = geometry_of((14, 14, 64), (3, 3), (2, 2), "SAME")
    entries = [ENTRY, ENTRY._replace(verb="dx", shape=(576, 512), geometry=geometry)]
    (folder / f"{tuned.slug(DEVICE)}.json").write_text(tuned.written(entries, DEVICE, command="x"))
    assert tuned.look_up(folder, DEVICE) == (tuned.Table(DEVICE, tuple(entries)), "")


def test_every_shipped_table_can_be_read():
    for file in tuned.SHIPPED.glob("*.json"):
        held = json.loads(file.read_text())
        assert file.stem == tuned.slug(held["device"])
        table, problem = tuned.look_up(tuned.SHIPPED, held["device"])
        assert table is not None or held["jax"] != tuned.versions()["jax"], problem


def test_tables_travel_with_the_package():
    text = (tuned.SHIPPED.parents[2] / "pyproject.toml").read_text()
    assert '"tuned/*.json"' in text


@needs_kernel
def test_the_faster_of_kernel_and_fall_back_is_taken(folder):
    """A kernel that loses to a weight kept dense may still beat unpacking one."""
    (file,) = folder.iterdir()
    one_row = ENTRY._replace(count=1, ratios={0.5: 0.9})
    file.write_text(tuned.written([one_row], DEVICE))
    made = choice.choose("cpu", one_row.at(0.5))
    assert made.fallback < made.ratio < 1 and made.path == "sparse" and made.taken == made.ratio


@pytest.mark.parametrize("platform", model.MACHINES)
def test_the_fall_back_costs_less_the_more_rows_there_are(platform):
    costs = [model.fallback(platform, ENTRY._replace(count=n).at(0.5)) for n in (1, 256, 65536)]
    assert costs == sorted(costs) and 0 < costs[0] < 0.9 and 0.97 < costs[2] < 1
    assert model.fallback("rocm", ENTRY.at(0.5)) == 1


# ---- The model, and what is said ----


@pytest.mark.parametrize("platform", model.MACHINES)
def test_the_model_gains_with_sparsity_and_with_the_block(platform):
    call = lambda side, d: Entry(
        "forward", 8192, (4096, 4096), (side, side), "bfloat16", None, {}
    ).at(d)
    ratios = [model.predicted(platform, call(64, d)) for d in (1.0, 0.5, 0.3, 0.1, 0.05)]
    assert ratios == sorted(ratios) and 2.5 * ratios[0] < ratios[-1]
    sides = [model.predicted(platform, call(side, 0.1)) for side in (16, 32, 64, 128)]
    assert sides == pytest.approx(sorted(sides), rel=0.01)  # whole blocks live


@pytest.mark.parametrize("verb", ["forward", "dw"])
def test_few_images_cost_what_a_gpu_takes_at_once(verb):
    geometry = geometry_of((56, 56, 256), (3, 3), (1, 1), "SAME")
    entry = Entry(verb, 128, (geometry.rows, 256), (64, 64), "bfloat16", geometry, {})
    ratio = lambda count: model.predicted("cuda", entry._replace(count=count).at(0.5))
    at_once = model.MACHINES["cuda"].images[verb]
    assert ratio(at_once) > 2 * ratio(max(1, at_once // 4))
    assert ratio(2 * at_once) == pytest.approx(ratio(at_once), rel=0.2)


def test_the_explanation_names_path_reason_and_ratio(folder):
    said = explain((256, 1024, 512), (16, 16), 0.5)
    assert said.choices["forward"].path == "dense"
    said_of_forward = "forward: dense (kernel 0.40 times as fast as dense, fall-back 0."
    assert said_of_forward in str(said)
    assert f"on {DEVICE}" in str(said) and "training step: " in str(said)


@needs_kernel
def test_a_step_that_is_made_to_run_on_kernels_counts_the_slower_ones_too(folder):
    said = explain((256, 1024, 512), (16, 16), 0.5)
    shares = [1 / c.ratio for c in said.choices.values()]
    assert said.step_on("sparse") == pytest.approx(3 / sum(shares))
    assert said.step_on("sparse") < said.step == said.step_on("auto")


def test_where_there_is_no_kernel_the_explanation_says_so():
    said = explain((64, 64, 64), (16, 16), 0.1, platform="rocm")
    assert {c.path for c in said.choices.values()} == {"dense"} and said.step <= 1
    assert said.step_on("sparse") == said.step
    assert "no block-sparse kernel for rocm" in str(said)
    assert "blocks with sides of" in str(explain((64, 64, 64), (8, 8), 0.1, platform="tpu"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"density": 0.0}, r"a density lies in \(0, 1\], not 0.0"),
        ({"density": 30}, r"a density lies in \(0, 1\], not 30"),
        ({"block": (0, 8)}, "a layout's block is two positive integers"),
        ({"shape": (0, 8, 8)}, "x has a positive number of rows, not 0"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_words(changes, words):
    given = {"shape": (64, 64, 64), "block": (8, 8), "density": 0.1}
    with pytest.raises(ValueError, match=words):
        explain(**(given | changes))
