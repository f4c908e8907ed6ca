"""What is asked of an estimate depends on what it rests on: a window that nobody has measured must promise more."""

import pytest

from sparsity.kernels import tuned
from sparsity.kernels.calls import VERBS
from sparsity.kernels.cpu import backend as cpu
from sparsity.kernels.geometry import geometry_of
from sparsity.kernels.tuned import Entry
from sparsity.train import estimates
from sparsity.train.site import Site

DEVICE = tuned.device_of("cpu")
BLOCK, IMAGES, LIVE = (16, 16), 64, 4
GEOMETRY = geometry_of((8, 8, 16), (3, 3), (1, 1), "SAME")
SITE = Site("conv", (3, 3, 16, 64), 3, 64, "float32", GEOMETRY)


def entry(verb, ratio):
    density = LIVE / 36
    return Entry(verb, IMAGES, SITE.matrix, BLOCK, "float32", GEOMETRY, {density: ratio})


needs_kernel = pytest.mark.skipif(
    bool(cpu.convolution_refusal(entry("forward", 2.0).at(0.1).layout, "float32", GEOMETRY)),
    reason="there is no C++ compiler here",
)


@pytest.fixture
def estimate(tmp_path, monkeypatch):
    """measured ratio, or None where nothing is -> the layer's estimate."""
    monkeypatch.setenv("SPARSITY_TUNED", str(tmp_path))

    def found(ratio):
        if ratio is not None:
            text = tuned.written([entry(verb, ratio) for verb in VERBS], DEVICE)
            (tmp_path / f"{tuned.slug(DEVICE)}.json").write_text(text)
        tuned.table_of.cache_clear()
        return estimates.of(SITE, BLOCK, LIVE, IMAGES, "cpu")

    yield found
    tuned.table_of.cache_clear()


@needs_kernel
@pytest.mark.parametrize(("ratio", "pays"), [(2.0, True), (1.2, True), (1.1, False)])
def test_a_window_that_was_measured_pays_at_a_little_more_than_dense(estimate, ratio, pays):
    found = estimate(ratio)
    assert (found.refusal, found.pays) == ("", pays)
    assert f"{ratio:.2f} times as fast as dense as measured on {DEVICE}" in found.why
    assert found.why.endswith(DEVICE if pays else "; 1.15 times are asked")


@needs_kernel
@pytest.mark.filterwarnings("ignore:no tuned table")
def test_a_window_that_the_model_alone_knows_must_promise_much_more(estimate):
    found = estimate(None)
    assert (found.refusal, found.pays) == ("", False)
    assert "by the model of" in found.why and found.why.endswith("; 3.5 times are asked")


@needs_kernel
def test_a_layer_whose_products_would_run_dense_stays_masked(estimate):
    """So that no step of `auto` unpacks weights for products that a masked one has for nothing."""
    assert not estimate(0.5).pays


MATRIX = Site("dense", (256, 512), 1, 1, "float32")


@pytest.mark.filterwarnings("ignore:no tuned table")
@pytest.mark.parametrize(
    ("block", "dtype", "words"),
    [
        (
            (64, 64),
            "float32",
            "not float32; in bfloat16 there is one: set the network's dtype to b",
        ),
        ((8, 8), "float32", "not float32; in bfloat16 the GPU's kernels are for blocks with sides"),
        (
            (8, 8),
            "bfloat16",
            "the GPU's kernels are for blocks with sides of (16, 32, 64, 128), no",
        ),
        ((64, 64), "bfloat16", ""),
    ],
)
def test_what_a_gpu_refuses_is_said_with_what_to_set(block, dtype, words):
    said = estimates.of(MATRIX._replace(dtype=dtype), block, 3, 4096, "gpu").refusal
    assert words in said and bool(words) == bool(said)
    assert "bfloat16" not in said or dtype == "float32"
