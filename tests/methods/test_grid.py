"""The grid: its corners are the papers' methods, and what makes no sense is refused in a sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.contract import Context, Method, Signals
from sparsity.gates import GATES
from sparsity.methods.grid import MASKS, grid, refusal
from sparsity.methods.magnitude import magnitude
from sparsity.methods.powerprop import powerprop
from sparsity.methods.random import random
from sparsity.methods.sequential_attention import sequential_attention
from sparsity.plan.phases import Kind
from sparsity.units.partition import Group, View
from sparsity.units.scores import SCORES

KEY = jax.random.key(0)
W = {
    "w": Group((3, 3), (View("w", (6, 8), ((0,), (1,)), (2, 3)),)),
    "v": Group((2, 4), (View("v", (4, 8), ((0,), (1,)), (2, 2)),)),
}
SPARSE = Context(
    Kind.SPARSE,
    keep={"w": jnp.int32(3), "v": jnp.int32(4)},
    target={"w": jnp.int32(3), "v": jnp.int32(4)},
)


def weights(seed=0, change=lambda x: x):
    numbers = np.random.default_rng(seed)
    draw = lambda shape: jnp.asarray(change(numbers.normal(size=shape)), jnp.float32)
    return {"w": draw((6, 8)), "v": draw((4, 8))}


def outcome(method: Method):
    """Masks and applied parameters after gates that differ and one update."""
    state = method.init(KEY, weights())
    moved = lambda g: jnp.asarray(np.random.default_rng(5).normal(size=g.shape), g.dtype)
    state = state._replace(gates=jax.tree.map(moved, state.gates))
    state = method.update(state, SPARSE, Signals(weights(1), weights(2, np.square)))
    return method.masks(state, SPARSE), method.apply(state, SPARSE).params


CORNERS = {
    "magnitude": (magnitude(W), grid(W)),
    "magnitude of fisher, globally": (
        magnitude(W, score="fisher", select="globally", floor=2, batches=3),
        grid(W, score="fisher", select="globally", floor=2, batches=3),
    ),
    "random": (random(W), grid(W, score="random")),
    "powerprop by block": (powerprop(W), grid(W, mask="block_powerprop")),
    "powerprop by weight": (
        powerprop(W, alpha=3.0, form="weight", score="max"),
        grid(W, mask="powerprop", alpha=3.0, score="max"),
    ),
    "sequential attention": (
        sequential_attention(W, clip=True),
        grid(W, mask="softmax", score="attention", clip=True),
    ),
}


@pytest.mark.parametrize("name", CORNERS)
def test_the_corners_of_the_grid_are_the_papers_methods(name):
    paper, corner = CORNERS[name]
    same = lambda a, b: np.testing.assert_array_equal(a, b)
    jax.tree.map(same, outcome(paper), outcome(corner))
    assert paper.needs == corner.needs and paper.absorbs_zero == corner.absorbs_zero


def test_soft_masks_and_norms_rank_otherwise():
    """The arms of the paper's Fig. 2(a) differ only in what ranks the blocks."""
    arms = [outcome(grid(W, mask="softmax", score=score)) for score in ("attention", "l2")]
    assert any((arms[0][0][name] != arms[1][0][name]).any() for name in W)


def test_a_norm_ranks_what_the_soft_mask_leaves():
    method = grid(W, mask="exponential", score="l2")
    state = method.init(KEY, weights())
    gates = {"w": jnp.zeros((3, 3)).at[2, 2].set(9), "v": jnp.zeros((2, 4)).at[0, 1].set(9)}
    state = method.update(state._replace(gates=(gates, ())), SPARSE, Signals())
    masks = method.masks(state, SPARSE)
    assert masks["w"][2, 2] and masks["v"][0, 1]


@pytest.mark.parametrize(("name", "size"), (("none", None), ("l1", np.abs), ("l2", np.square)))
@pytest.mark.parametrize("score", ("attention", "l2"))
def test_the_penalty_of_a_mask_is_of_its_numbers_and_the_weights(score, name, size):
    strength = 0.3 if size else 0.0
    method = grid(W, mask="sigmoid", score=score, mask_penalty=name, strength=strength)
    state = method.init(KEY, weights())
    state = state._replace(gates=jax.tree.map(lambda g: g - 0.5, state.gates))
    expected = (
        sum(np.square(w).sum() for w in weights().values()) + (9 + 8) * size(0.5) if size else 0
    )
    penalty = method.penalty(state, SPARSE, Signals())
    np.testing.assert_allclose(penalty, strength * expected, rtol=1e-6)


REFUSED = {
    "attention ranks by a mask's own numbers": [
        {"mask": mask, "score": "attention"} for mask in MASKS if mask not in GATES
    ],
    "logits of different softmaxes share no scale": [
        {"mask": "softmax", "score": "attention", "select": "globally"}
    ],
    "clip belongs to the softmax mask": [{"mask": "sigmoid", "clip": True}, {"clip": True}],
    "mask_penalty is none, l1 or l2": [{"mask": "hoff", "mask_penalty": "l3", "strength": 0.1}],
    "mask_penalty needs a mask with numbers": [
        {"mask": "none", "mask_penalty": "l1", "strength": 0.1},
        {"mask": "powerprop", "mask_penalty": "l2", "strength": 0.1},
    ],
    "strength is the mask_penalty's": [{"mask": "hoff", "strength": 0.1}],
}


@pytest.mark.parametrize(
    ("sentence", "settings"),
    [(sentence, settings) for sentence, many in REFUSED.items() for settings in many],
    ids=str,
)
def test_what_makes_no_sense_is_refused_in_a_sentence(sentence, settings):
    with pytest.raises(ValueError, match=sentence):
        grid(W, **settings)


def test_nothing_else_is_refused():
    allowed = [
        (mask, score, select)
        for mask in MASKS
        for score in (*SCORES, "attention")
        for select in ("per_group", "globally")
        if not refusal(mask, score, select, False, "none")
    ]
    # Seven masks by six scores, and four masks with numbers of their own; but one globally.
    assert len(allowed) == 2 * (7 * 6 + 4) - 1
    for mask, score, select in allowed:
        assert isinstance(grid(W, mask=mask, score=score, select=select), Method)


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"mask": "soft_max"}, "did you mean 'softmax'.*none, softmax, exponential, hoff, sigmoid"),
        ({"score": "l3"}, "no score is called 'l3'.*l2, l1, max, saliency, fisher, random"),
        ({"select": "global"}, "did you mean 'globally'"),
        ({"mask": "powerprop", "alpha": 0.5}, "alpha >= 1"),
    ],
    ids=str,
)
def test_an_unknown_name_says_what_there_is(settings, hint):
    with pytest.raises(ValueError, match=hint):
        grid(W, **settings)
