"""Laws of the contract: defaults are the dense network, chains compose, a method is one small file."""

import importlib.util
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.contract import Applied, Context, Method, Needs, Signals, State, chain
from sparsity.families import gated, hard, penalised, reparametrised
from sparsity.gates import exponential, softmax
from sparsity.methods.powerprop import powerprop, reparametrisation
from sparsity.named import call, function_of
from sparsity.penalties import identity
from sparsity.plan.phases import Kind
from sparsity.units import masks as selections
from sparsity.units.partition import Group, View, scale
from sparsity.units.scores import SCORES

KEY = jax.random.key(0)


def partition(name="w"):
    return {name: Group((3, 2), (View(name, (6, 8), ((0,), (1,)), (2, 4)),))}


W = partition()


def params(seed=0):
    numbers = np.random.default_rng(seed)
    return {"w": jnp.asarray(numbers.normal(size=(6, 8)), jnp.float32), "b": jnp.ones(8)}


def at(kind="sparse", keep=2, **settings):
    count = {"w": jnp.int32(keep)}
    return Context(Kind(kind), keep=count, target=count, **settings)


# Defaults.


def test_each_verb_defaults_to_what_the_dense_network_does():
    method, bare = Method(), params()
    state = method.init(KEY, bare)
    assert state.params is bare and jax.tree.leaves((state.gates, state.memory)) == []
    for kind in Kind:
        applied = method.apply(state, at(kind))
        assert applied.params is bare and not applied.hooks and not applied.multipliers
        assert method.penalty(state, at(kind), Signals()) == 0
        assert method.update(state, at(kind), Signals()) is state
        assert method.masks(state, at(kind)) == {}
    assert method.needs == Needs() and method.absorbs_zero


def test_masks_act_in_all_phases_but_the_dense_ones():
    assert [kind for kind in Kind if not Context(kind).masked] == [Kind.DENSE]


def test_the_kind_of_phase_alone_is_static_in_a_context():
    traced = []

    @jax.jit
    def step(context):
        traced.append(context.phase)
        return context.progress + sum(context.keep.values()) + context.regrow

    for kind in ("dense", "sparse", "dense", "sparse"):
        for keep in (1, 2, 3):
            assert step(at(kind, keep, progress=0.5)) == 1.5 + keep
    assert traced == [Kind.DENSE, Kind.SPARSE]


def test_needs_unite_to_what_serves_all():
    a = Needs(batches=3, grads=True, capture=("x", "y"))
    b = Needs(batches=2, grads_squared=True, capture=("y", "z"))
    assert a.union(b) == Needs(3, True, True, ("x", "y", "z"))
    assert a.union(Needs()) == a and Needs().union(b) == b


# Chains.


def magnitude(score="l2"):
    return hard(W, SCORES[score])


def halves():
    """A member that halves the weights, and prunes nothing."""
    return Method(apply=lambda s, c: Applied(jax.tree.map(lambda w: w / 2, s.params)))


def test_a_chain_of_one_is_that_one_and_of_none_the_dense_network():
    alone, bare = magnitude(), params()
    method = chain(alone)
    state = method.update(method.init(KEY, bare), at(), Signals())
    own = alone.update(alone.init(KEY, bare), at(), Signals())
    same = method.apply(state, at()).params, alone.apply(own, at()).params
    np.testing.assert_array_equal(same[0]["w"], same[1]["w"])
    none = chain()
    assert none.init(KEY, bare).params is bare
    assert none.apply(none.init(KEY, bare), at()).params is bare
    assert none.penalty(none.init(KEY, bare), at(), Signals()) == 0


def test_each_member_sees_the_parameters_as_those_before_it_leave_them():
    seen = []

    def looks(name):
        def note(state):
            seen.append((name, float(state.params["b"][0])))
            return state

        return Method(
            init=lambda key, p: note(State(p)),
            apply=lambda s, c: Applied(note(s).params),
            penalty=lambda s, c, _: note(s).params["b"][0],
            update=lambda s, c, _: note(s),
            masks=lambda s, c: {name: note(s).params["b"] > 0},
        )

    method = chain(looks("first"), halves(), looks("second"), halves(), looks("third"))
    state = method.init(KEY, params())
    total = method.penalty(state, at(), Signals())
    assert float(total) == 1 + 0.5 + 0.25
    method.update(state, at(), Signals())
    assert set(method.masks(state, at())) == {"first", "second", "third"}
    assert set(seen) == {("first", 1.0), ("second", 0.5), ("third", 0.25)}
    assert float(method.apply(state, at()).params["b"][0]) == 0.25


def test_a_later_member_ranks_the_effective_weights():
    """Attention outweighs the norms, so the blocks that magnitude keeps are attention's."""
    method = chain(gated(W, softmax(), select=None), magnitude())
    state = method.init(KEY, params())
    logits = jnp.array([[0.0, 0, 9], [0, 9, 0]]).T
    state = state._replace(gates=({"w": logits}, ()))
    new = method.update(state, at(), Signals())
    np.testing.assert_array_equal(method.masks(new, at())["w"], logits == 9)


def test_only_the_first_member_may_reparametrise():
    roots = reparametrisation(W, 2.0, "block")
    chain(roots, magnitude()).init(KEY, params())
    for wrong in (chain(magnitude(), roots), chain(Method(), Method(), roots), chain(roots, roots)):
        with pytest.raises(ValueError, match="method [12] of the chain reparametrises"):
            wrong.init(KEY, params())


def test_masks_of_the_same_group_are_multiplied():
    best, worst = magnitude(), hard(W, SCORES["l2"]._replace(value=negated))
    method = chain(best, worst)
    state = method.init(KEY, params())
    # The second member ranks what the first has masked: in a dense phase, nothing yet.
    state = method.update(state, at("dense", keep=4), Signals())
    alive = method.masks(state, at())["w"]
    first, second = (memory.masks["w"] for memory in state.memory)
    assert int(first.sum()) == int(second.sum()) == 4 and int(alive.sum()) == 2
    np.testing.assert_array_equal(alive, first & second)
    applied = method.apply(state, at()).params
    np.testing.assert_array_equal(applied["w"], scale(W, {"w": alive}, params())["w"])


def negated(*args):
    return {name: -value for name, value in SCORES["l2"].value(*args).items()}


def test_masks_of_different_groups_stand_side_by_side():
    other = {"v": Group((2,), (View("v", (4,), ((0,),), (2,)),))}
    method = chain(magnitude(), hard(other, SCORES["l1"]))
    state = method.init(KEY, {**params(), "v": jnp.arange(4.0)})
    both = Context(Kind.SPARSE, keep={"w": jnp.int32(1), "v": jnp.int32(1)})
    masks = method.masks(method.update(state, both, Signals()), both)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"w": 1, "v": 1}


def test_multipliers_and_penalties_of_a_chain_come_together():
    two = chain(gated(W, exponential(), None), gated(W, softmax()), penalised(W, identity, 0.5))
    state = two.init(KEY, params())
    state = state._replace(gates=({"w": jnp.full((3, 2), 0.5)}, state.gates[1], ()))
    applied = two.apply(state, at("dense"))
    np.testing.assert_allclose(applied.multipliers["w"], np.exp(0.5), rtol=1e-6)
    np.testing.assert_allclose(applied.params["w"], np.exp(0.5) * params()["w"], rtol=1e-6)
    norms = SCORES["l2"].value(W, applied.params, None, None, KEY)["w"]
    penalty = two.penalty(state, at("dense"), Signals())
    np.testing.assert_allclose(penalty, 0.5 * norms.sum(), rtol=1e-6)


def test_hooks_of_a_chain_come_together():
    hook = lambda compute, params, inputs: compute(params, inputs)
    hooked = lambda path: Method(apply=lambda s, c: Applied(s.params, {path: hook}))
    method = chain(hooked("a"), Method(), hooked("b"))
    assert set(method.apply(method.init(KEY, params()), at()).hooks) == {"a", "b"}


def test_needs_of_a_chain_unite_and_one_member_that_fears_zero_is_enough():
    fisher, saliency = hard(W, SCORES["fisher"], batches=2), hard(W, SCORES["saliency"], batches=5)
    assert chain(fisher, saliency).needs == Needs(5, True, True)
    assert chain(fisher, magnitude()).absorbs_zero
    assert not powerprop(W).absorbs_zero and not chain(powerprop(W), fisher).absorbs_zero


def test_chains_nest():
    flat = chain(reparametrisation(W, 2.0, "block"), magnitude(), penalised(W, identity, 0.1))
    nested = chain(powerprop(W), chain(penalised(W, identity, 0.1)))
    results = []
    for method in (flat, nested):
        state = method.update(method.init(KEY, params()), at(), Signals())
        penalty = method.penalty(state, at(), Signals())
        results.append((method.apply(state, at()).params["w"], penalty))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_gradients_flow_through_a_chain_to_parameters_and_gates():
    method = chain(reparametrisation(W, 2.0, "block"), gated(W, softmax(), None), magnitude())
    state = method.update(method.init(KEY, params()), at(), Signals())

    def loss(trained):
        now = state._replace(params=trained[0], gates=trained[1])
        return jnp.sum(jnp.sin(method.apply(now, at()).params["w"]))

    of_params, of_gates = jax.grad(loss)((state.params, state.gates))
    dead = ~method.masks(state, at())["w"]
    hidden = scale(W, {"w": dead}, of_params)["w"]
    assert (hidden == 0).all() and (of_params["w"] != 0).sum() == 2 * 8
    assert (of_gates[1]["w"] != 0).all()


def test_lists_and_tuples_in_the_tree_are_paths_too():
    where = {"params/layers/1/0": Group((2,), (View("params/layers/1/0", (4,), ((0,),), (2,)),))}
    tree = {"params": {"layers": [jnp.ones(3), (jnp.arange(4.0), jnp.ones(2))]}}
    keep = Context(Kind.SPARSE, keep={"params/layers/1/0": jnp.int32(1)})
    for method in (
        powerprop(where),
        chain(gated(where, softmax()), penalised(where, identity, 1.0)),
    ):
        state = method.update(method.init(KEY, tree), keep, Signals())
        applied = method.apply(state, keep).params
        assert jax.tree.structure(applied) == jax.tree.structure(tree)


# A new paper in one file.

MINE = '''
"""Rows by their largest entry: a paper that came out this morning."""

import jax.numpy as jnp

from sparsity.contract import Method
from sparsity.families import hard
from sparsity.units.partition import pool
from sparsity.units.scores import Score


def mine(partition, *, power: float = 4.0) -> Method:
    """Keeps the blocks with the largest sum of |w|^power."""
    value = lambda p, params, *_: pool(p, {"w": jnp.abs(params["w"]) ** power})
    return hard(partition, Score(value))
'''


@pytest.fixture
def package(tmp_path):
    """A package of methods that holds one file of the user's."""
    folder = tmp_path / "new_methods"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "mine.py").write_text(textwrap.dedent(MINE))
    spec = importlib.util.spec_from_file_location("new_methods", folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["new_methods"] = module
    spec.loader.exec_module(module)
    yield module
    for name in [name for name in sys.modules if name.split(".")[0] == "new_methods"]:
        del sys.modules[name]


def test_a_method_in_one_file_is_found_by_its_name_and_keeps_the_contract(package):
    make = function_of("method", "mine", package)
    method = call("mine", make, W, settings={"power": 6.0})
    state = method.init(KEY, params())
    np.testing.assert_array_equal(method.apply(state, at("dense")).params["w"], params()["w"])
    new = jax.jit(method.update)(state, at(), Signals())
    assert int(method.masks(new, at())["w"].sum()) == 2
    assert int((method.apply(new, at()).params["w"] != 0).sum()) == 16
    whole = chain(reparametrisation(W, 2.0, "weight"), method)
    assert whole.init(KEY, params()).params["w"].shape == (6, 8)


def test_an_unknown_method_or_setting_says_what_there_is(package):
    with pytest.raises(ValueError, match="no method is called 'mien'; did you mean 'mine'?"):
        function_of("method", "mien", package)
    with pytest.raises(ValueError, match="did you mean 'power'"):
        call("mine", function_of("method", "mine", package), W, settings={"pover": 2.0})
    with pytest.raises(ValueError, match="power is a float, not 'two'"):
        call("mine", function_of("method", "mine", package), W, settings={"power": "two"})


def test_a_method_written_from_the_verbs_needs_only_what_it_changes():
    """Ten lines: a threshold that is learned, its mask exact at the ticks."""

    def mine(partition, *, level: float = 0.1) -> Method:
        norms = lambda state: SCORES["l2"].value(partition, state.params, None, None, KEY)
        alive = lambda state: selections.threshold(partition, norms(state), state.gates)
        return Method(
            init=lambda key, p: State(p, jnp.float32(0), {"w": jnp.ones((3, 2), bool)}),
            apply=lambda s, c: Applied(
                scale(partition, s.memory, s.params) if c.masked else s.params
            ),
            penalty=lambda s, c, _: level * jnp.exp(-s.gates),
            update=lambda s, c, _: s._replace(memory=alive(s)),
            masks=lambda s, c: s.memory,
        )

    method = chain(reparametrised(lambda p: p, lambda p: p), mine(W))
    state = method.init(KEY, params())
    state = state._replace(gates=((), jnp.float32(2.8)))
    masks = method.masks(method.update(state, at(), Signals()), at())["w"]
    norms = SCORES["l2"].value(W, params(), None, None, KEY)["w"]
    np.testing.assert_array_equal(masks, norms >= 2.8)
    assert method.penalty(state, at(), Signals()) == np.float32(0.1) * jnp.exp(jnp.float32(-2.8))
