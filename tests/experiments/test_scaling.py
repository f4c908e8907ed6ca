"""What devices exchange is read as the compiler writes it, and is what theory says, whatever is masked."""

import functools
import json

import jax
import numpy as np
import pytest

from experiments.assembly.placement import shared
from experiments.compiled.collectives import Exchange, exchanges
from experiments.compiled.steps import figures
from experiments.reporting import scaling
from experiments.reporting.scaling_chart import chart, lines, rows_of_one

# As XLA writes programs: the operands' types stand where they are made.
TEXT = """
  %a = f32[16,8]{1,0:T(8,128)} parameter(0), sharding={replicated}
  %b = bf16[3,3,64]{2,1,0} fusion(%a), kind=kLoop, calls=%add
  %sum = (f32[16,8]{1,0}, /*index=1*/f32[16,8]{1,0}) all-reduce(%a, %a), channel_id=1, to_apply=%add
  %begun = bf16[3,3,64]{2,1,0} all-reduce-start(%b), channel_id=2, to_apply=%add
  %ended = bf16[3,3,64]{2,1,0} all-reduce-done(%begun)
  %gathering = (f32[16,8]{1,0}, f32[128,8]{1,0}) all-gather-start(%a), dimensions={0}
  %gathered = f32[128,8]{1,0} all-gather-done(%gathering)
  ROOT %cut = f32[2,8]{1,0} reduce-scatter(%a), dimensions={0}, to_apply=%add
  %count = s32[] all-reduce(%n), to_apply=%add.2
"""


def test_every_collective_counts_once_with_the_whole_of_its_arrays():
    assert exchanges(TEXT) == [
        Exchange("all-gather", "f32", 128 * 8 * 4, 1),
        Exchange("all-reduce", "bf16", 9 * 64 * 2, 1),
        Exchange("all-reduce", "f32", 2 * 16 * 8 * 4, 1),
        Exchange("all-reduce", "s32", 4, 1),
        Exchange("reduce-scatter", "f32", 16 * 8 * 4, 1),
    ]


@pytest.fixture(scope="module")
def found(config_of):
    """(arm, devices, how many share a weight) -> the figures of a step of the MLP on digits."""
    arms = {"dense": ("dense", {"density": "1"}), "masked": ("magnitude,plan=one_shot", {})}

    @functools.cache
    def of(arm, devices, fsdp=1, model=1):
        argument, fields = arms[arm]
        config = json.loads(json.dumps(config_of(argument, **fields)))
        return figures(config, shared(jax.devices()[:devices], config["batch"], fsdp, model))

    return of


@pytest.mark.parametrize("devices", [2, 8])
def test_gradients_are_summed_and_nothing_else_whatever_is_masked(found, devices):
    for arm in ("dense", "masked"):
        row = {"devices": devices, **found(arm, devices)}
        assert {one["kind"] for one in row["exchanges"]} == {"all-reduce"}
        assert scaling.exchanged(row) == scaling.due(row) > 0


def test_one_device_exchanges_nothing(found):
    row = {"devices": 1, **found("dense", 1)}
    assert row["exchanges"] == [] and scaling.due(row) == 0


def test_devices_share_the_batch_and_the_work(found):
    one, eight = found("dense", 1), found("dense", 8)
    assert 0.9 < 8 * eight["flops"] / one["flops"] < 1.2
    assert eight["memory"]["together"] == sum(
        eight["memory"][name] for name in ("arguments", "outputs", "temporaries")
    )
    assert eight["memory"]["temporaries"] < one["memory"]["temporaries"]


def test_weights_that_are_shared_out_are_gathered_and_held_in_parts(found):
    whole, parts = found("masked", 8), found("masked", 8, 8)
    kernels = 4 * (64 * 256 + 256 * 256)  # the last one's ten columns lie whole
    assert "all-gather" in {one["kind"] for one in parts["exchanges"]}
    # Of weights and momentum an eighth is left on each device.
    assert whole["memory"]["arguments"] - parts["memory"]["arguments"] > 2 * kernels * 3 // 4


def test_devices_that_share_columns_share_the_work_and_send_activations(found):
    one, eight = found("dense", 1), found("dense", 8, 1, 4)
    assert 0.9 < 8 * eight["flops"] / one["flops"] < 1.3
    sent = sum(e["bytes"] for e in eight["exchanges"])
    assert sent != scaling.due({"devices": 8, **eight})


def row(devices, batch, arm="dense", **fields):
    memory = {"arguments": 2**20, "outputs": 0, "temporaries": 2**21, "together": 3 * 2**20}
    return {
        "target": "v5e",
        "arm": arm,
        "mesh": "data",
        "devices": devices,
        "batch": batch,
        "side": 224,
        "problem": "",
        "memory": memory,
        "flops": 2e12,
        "seconds": 1.0,
        "due": {"gradients": 1_000_000, "norms": 500_000, "metrics": 8},
        "exchanges": [{"kind": "all-reduce", "dtype": "f32", "bytes": 1_600_000, "count": 2}],
        **fields,
    }


VERSIONS = {"python": "3.11", "versions": {"jax": "0.10"}}


def test_the_page_says_what_is_exchanged_and_what_is_due(tmp_path):
    more = [{"kind": "all-reduce", "dtype": "f32", "bytes": 1_600_024, "count": 2}]
    rows = [
        row(8, 2048), row(8, 2048, "masked"), row(64, 2048), row(64, 2048, "masked", exchanges=more),
        row(1, 2048, exchanges=[], problem="it does not fit"),
    ]  # fmt: skip
    scaling.write(tmp_path / "scaling", VERSIONS, rows[::-1])
    text = (tmp_path / "scaling.md").read_text()
    assert "on 8 to 64 devices a step exchanges 1,600,000 to 1,600,024 bytes" in text
    assert "1,500,008 are due" in text and "Masks add 0 or 24 bytes." in text
    assert "| 8 | dense | 256 | 1.600 |  |  |  | 1.500 | 1 | 2 | 3 | 2.000 | 2,048 |" in text
    assert "| 1 | dense | 2,048 | does not compile: it does not fit |" in text
    assert "data, dense, batch 2,048" in (tmp_path / "scaling.svg").read_text()


def test_devices_that_share_weights_by_their_columns_compute_the_same_rows():
    assert rows_of_one(row(8, 2048)) == 256 and rows_of_one(row(8, 2048, model=4)) == 1024
    assert scaling.cells(row(8, 2048, model=4))[2] == "1,024"


def test_the_page_says_where_gathers_are_written_as_sums():
    gathers = [{"kind": "all-gather", "dtype": "f32", "bytes": 8, "count": 1}]
    rows = [row(8, 2048, mesh="fsdp", exchanges=gathers), row(64, 2048, mesh="fsdp")]
    (words,) = scaling.findings(rows)
    assert "gathered as such on 8 devices. On 64 the compiler writes it as a sum" in words
    assert "as a sum" not in scaling.findings(rows[:1])[0]


def test_the_page_says_what_shared_columns_cost():
    rows = [row(64, 2048, mesh="model", model=4), row(8, 2048, mesh="model", model=4)]
    rows[1]["exchanges"] = [{"kind": "all-gather", "dtype": "f32", "bytes": 9e9, "count": 1}]
    assert "9,000 MB a step at 1,024 rows, 2 at 128." in scaling.findings(rows)[0]
    assert "2 MB a step at 128 rows, 2 at 128." in scaling.findings(rows[:1])[0]


def test_only_rows_of_the_same_work_are_of_one_whole_line():
    rows = [row(8, 2048), row(64, 2048), row(1, 256), row(8, 2048, mesh="model", model=4)]
    found = [(line.same, [r["devices"] for r in line.rows]) for line in lines(rows)]
    assert found == [(False, [8, 64]), (True, [1, 8])]


def test_a_picture_is_of_dense_steps_where_there_are_some():
    masked = [row(8, 2048, "masked"), row(64, 2048, "masked")]
    assert "data, masked, batch 2,048" in chart(masked)
    both = chart([*masked, row(8, 2048), row(64, 2048)])
    assert "data, dense, batch 2,048" in both and "masked" not in both


def test_rows_of_other_versions_are_compiled_anew(tmp_path):
    scaling.write(tmp_path / "scaling", VERSIONS, [row(8, 2048)])
    (there,) = scaling.kept(tmp_path / "scaling", VERSIONS)
    assert scaling.same(there, row(8, 2048)) and not scaling.same(there, row(8, 4096))
    assert scaling.kept(tmp_path / "scaling", {**VERSIONS, "python": "3.12"}) == []
    assert scaling.kept(tmp_path / "nothing", VERSIONS) == []


def test_devices_that_are_only_described_take_shapes():
    place = shared(jax.devices()[:4], 8, here=False)
    put = place.put({"a": np.zeros(3), "b": jax.numpy.int32(1)})
    assert put["a"].shape == (3,) and put["b"].sharding.is_fully_replicated
    cut = place.rows({"image": np.zeros((1, 8, 2))}, axis=1)["image"]
    assert cut.sharding.shard_shape(cut.shape) == (1, 2, 2)
