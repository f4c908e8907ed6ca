"""The benchmark of masks: every row has its verdict, arms take turns, what was measured elsewhere is not mixed in.

Nothing here depends on how long anything takes.
"""

import itertools
import json
from xml.etree import ElementTree

import jax
import numpy as np
import pytest

from experiments.bench import bench
from experiments.benchmarks import arms, compiling, networks, plans
from experiments.benchmarks.clocks import Seconds, Spread, interleaved, ratios, spread
from experiments.benchmarks.measuring import Rounds, measured
from experiments.benchmarks.networks import METHODS, NETS, Net, bench_of, made
from experiments.benchmarks.rows import Row, exact, plain
from experiments.reporting import speed
from sparsity.plan.phases import Kind
from sparsity.train.loop import fit
from sparsity.units.partition import leaves

SMALL = Net("mlp", {"widths": (64, 64)}, (8, 8, 1), 16, 32, 1.03, 1.12, steps=30)


@pytest.fixture(scope="module")
def small():
    return bench_of(SMALL, seed=0)


@pytest.fixture(scope="module")
def rows(small):
    """All rows of a small network."""
    return measured(small, "small", Rounds(3, 1, 1), seed=0)


def row(median, bound):
    return Row("net", "what", "x dense step", Spread(median, median, median), None, bound)


@pytest.mark.parametrize(
    ("median", "bound", "verdict"),
    [(1.02, 1.03, "held"), (1.03, 1.03, "held"), (1.04, 1.03, "missed"), (9.0, None, "no bound")],
)
def test_a_verdict_is_the_median_against_the_bound(median, bound, verdict):
    assert plain(row(median, bound))["verdict"] == verdict


def test_a_ratio_is_taken_round_by_round():
    # A machine that slows by ten between rounds leaves the ratio as it is.
    slowing = [Seconds(t, t) for t in (1.0, 10.0, 100.0)]
    twice = [Seconds(2 * one.wall, 3 * one.processor) for one in slowing]
    samples = {"dense": slowing, "arm": twice}
    assert ratios(samples, "arm", "dense", "wall") == pytest.approx((2, 2, 2))
    assert ratios(samples, "arm", "dense", "processor") == pytest.approx((3, 3, 3))


def test_quartiles_stand_around_the_median():
    assert spread([3.0, 1.0, 2.0, 5.0, 4.0]) == (2.0, 3.0, 4.0)
    assert spread([7.0]) == (7.0, 7.0, 7.0)


def test_arms_take_turns_in_an_order_that_the_seed_decides():
    def order_of(seed):
        called = []
        turns = {name: (lambda n=name: called.append(n)) for name in "abcd"}
        assert {len(found) for found in interleaved(turns, 20, seed).values()} == {20}
        return [called[i : i + 4] for i in range(0, len(called), 4)]

    rounds = order_of(seed=0)
    assert rounds == order_of(seed=0) != order_of(seed=1)
    assert all(sorted(one) == list("abcd") for one in rounds)
    assert len({tuple(one) for one in rounds}) > 5


def test_turns_of_a_least_length_begin_with_a_run_that_is_not_timed_and_nothing_comes_between():
    called = []
    turns = {name: (lambda n=name: called.append(n)) for name in "abcd"}
    found = interleaved(turns, 5, seed=0, least=1e-4)
    assert {len(times) for times in found.values()} == {5}
    tried, timed = called[:4], itertools.groupby(called[4:])
    assert tried == list("abcd")
    runs = [(name, len(list(calls))) for name, calls in timed]
    assert all(length >= 2 for _, length in runs) and len(runs) in range(16, 21)


@pytest.mark.slow
def test_every_row_has_the_bound_that_was_asked(rows):
    found = {one.what: one for one in rows}
    assert {name for name in arms.ARMS} <= set(found)
    bounds = {
        "dense step again": None,
        "masked step": 1.03,
        "masked step, dead weights zeroed": 1.03,
        "soft step, masked": 1.12,
        "soft step, dense phase": 1.12,
        "mask update, magnitude": 0.3,
        "mask update, attention": 0.3,
        "mask state, share of the parameters' bytes": 0.1,
        "30 steps of SequentialAttention++": 1.05,
        "peak memory, masked step": None,
    }
    assert {what: found[what].bound for what in bounds} == bounds
    for base, words in (
        ("dense step", "compiling the "),
        ("dense run", "compiling all of "),
    ):
        bound = 1.3 * found[f"{words}{base}"].measured.median + 0.5
        others = [r for r in rows if r.what.startswith(words) and not r.what.endswith(base)]
        assert others and {other.bound for other in others} == {bound}
    assert all(one.measured.low <= one.measured.median <= one.measured.high for one in rows)


@pytest.mark.slow
def test_mask_state_is_what_the_method_remembers(small, rows):
    state = made(small, "magnitude").create(jax.random.key(0), small.image)
    size = lambda tree: sum(np.asarray(x).nbytes for x in leaves(tree).values())
    share = next(r for r in rows if r.what.startswith("mask state")).measured.median
    assert share == pytest.approx(
        100 * size(state.wrapped.memory) / size(state.wrapped.params), rel=1e-9
    )


@pytest.mark.parametrize("name", [name for name, arm in arms.ARMS.items() if not arm.updates])
def test_steps_run_under_the_masks_that_they_name(small, name):
    arm = arms.ARMS[name]
    its = made(small, arm.method)
    state = arms.state_of(small, arm, its)
    alive = its.masks(state, networks.context(small, arm.kind))
    kept = {group: int(np.asarray(mask).sum()) for group, mask in alive.items()}
    full = {group: one.size for group, one in small.target.partition.items()}
    target = {group: int(n) for group, n in networks.context(small, arm.kind).target.items()}
    wanted = full if arm.kind == Kind.DENSE else target
    assert kept == ({} if arm.method == "dense" else wanted)


@pytest.mark.parametrize("name", compiling.MASKED)
def test_a_plans_set_is_what_its_run_compiles(small, name):
    its = made(small, plans.PLANS[name].method)
    run = plans.planned(small, name, its)
    state = its.create(jax.random.key(0), small.image)
    lowered = list(compiling.programs_of(small, its, state, name))
    keys = set(its.compilations)
    assert len(lowered) == len(keys)
    fit(run, state)
    assert set(its.compilations) == keys and set(its.compilations.values()) == {1}


def test_the_issues_networks_have_their_sizes():
    assert 1.8e6 < bench_of(NETS["mlp-512"], 0).parameters < 2.0e6
    assert NETS["mlp-512"].block == 32 and NETS["mlp-128"].masked is None
    assert set(METHODS) == {"dense", "magnitude", "sequential_attention"}


def test_parts_of_other_surroundings_are_not_kept(tmp_path):
    part = {"title": "a net", "command": "x", "seed": 0, "rounds": {"steps": 3}}
    part["rows"] = [plain(row(1.0, 1.03)), plain(exact("net", "bytes", "%", 0.02, 0.1))]
    speed.saved(tmp_path, "masks", {"clock": "processor", "networks": {"net": part}})
    assert speed.kept(tmp_path, "masks")["networks"] == {"net": part}
    file = tmp_path / "speed.json"
    found = json.loads(file.read_text())
    (there,) = found["masks"].values()
    there["surroundings"]["versions"]["jax"] = "0.1"
    file.write_text(json.dumps(found))
    assert speed.kept(tmp_path, "masks") == {}


def test_results_on_other_cores_stand_beside_these(tmp_path, monkeypatch):
    part = {"title": "a net", "command": "x", "seed": 0, "rounds": {"steps": 3}, "rows": []}
    for cores in ({0}, {0, 1}):
        monkeypatch.setattr("os.sched_getaffinity", lambda process, cores=cores: cores)
        assert speed.kept(tmp_path, "masks") == {}
        speed.saved(tmp_path, "masks", {"clock": "processor", "networks": {f"{cores}": part}})
        assert list(speed.kept(tmp_path, "masks")["networks"]) == [f"{cores}"]
    page = (tmp_path / "speed.md").read_text()
    assert ", 1 core), Python" in page and ", 2 cores), Python" in page


def test_the_page_and_the_picture_hold_what_was_measured(tmp_path):
    shown = [
        plain(row(1.01, 1.03)),
        plain(row(1.2, None)),
        plain(exact("net", "x", "%", 0.02, 0.1)),
    ]
    part = {"title": "a small net", "command": "the command", "seed": 5, "rounds": {"steps": 3}}
    networks = {"small": {**part, "rows": shown}}
    speed.saved(tmp_path, "masks", {"clock": "processor", "networks": networks})
    speed.saved(
        tmp_path,
        "launch",
        {
            "command": "another",
            "rows": [
                {
                    "what": "an import",
                    "measured": 1.25,
                    "unit": "s",
                    "note": "slow",
                    "rounds": 3,
                    "load": 5.5,
                }
            ],
        },
    )
    page = (tmp_path / "speed.md").read_text()
    for one in shown:
        assert f"| {' | '.join(speed.cells(one))} |" in page
    assert "the command" in page and "seed 5" in page and "jax " + jax.__version__ in page
    assert "not measured" in page and "| an import | 1.25 s | slow | 3 | 5.5 |" in page
    tree = ElementTree.parse(tmp_path / "speed.svg")
    assert "net, what: 1.010; net, what: 1.200" in tree.getroot().attrib["aria-label"]
    assert len(json.loads((tmp_path / "speed.json").read_text())) == 2


def test_an_unknown_network_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match="resnet20-64"):
        bench(["mlp-512", "resnet-20"], Rounds(3, 1, 1), 0, tmp_path)
    assert not list(tmp_path.iterdir())
