"""What the optimiser remembers: restarted at a phase, or of units that were pruned or regrown.

Two kinds of numbers live in an optax state. Moments, with the counts that correct their bias, remember
the loss that was; a schedule's count says how far the run is. A reset of a phase must drop the first
and keep the second. `tx.init` alone would start the cosine again at every phase. Zeroing the moments
alone would leave Adam's count: its bias correction, long at 1, would let the first step through at
(1 - b1) / sqrt(1 - b2) = 3.2 times the size of a first step.

Leaves are found by path: a leaf of the state belongs to the leaf of the trained tree whose whole path
its own path ends with, up to one key for what a transform splits (SM3's list of accumulators per axis).
So masked, partitioned and wrapped states work, where a map over trees of the parameters' structure
does not.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsity.units.partition import path_of

Tree = Any

# Class of a state -> the fields that say how far the run is. By name, since optax does not export all of
# these classes. A count of accumulated gradients is a cadence: dropping it would delay every later update
# and the schedule with it. The keys of noise go on, or each phase would see the same noise.
KEPT: Mapping[str, tuple[str, ...]] = {
    "ScaleByScheduleState": ("count",),  # also `optimizer.proximal`
    "WeightDecaySchedule": ("count",),
    "WrappedScheduleState": ("count",),
    "InjectHyperparamsState": ("count", "hyperparams"),
    "InjectStatefulHyperparamsState": ("count", "hyperparams", "hyperparams_states"),
    "MultiStepsState": ("mini_step", "gradient_step"),
    "ApplyEvery": ("count",),
    "ConditionallyTransformState": ("step",),
    "ConditionallyMaskState": ("step",),
    "ApplyIfFiniteState": ("notfinite_count", "last_finite", "total_notfinite"),
    "ReduceLROnPlateauState": (
        *("scale", "best_value", "plateau_count", "cooldown_count", "count", "avg_value"),
    ),
    "ScheduleFreeState": ("step_count",),
    "ScaleByAdemamixState": ("count_m2",),
    "LookaheadState": ("steps_since_sync",),
    "AddNoiseState": ("count", "rng_key"),
    "DifferentiallyPrivateAggregateState": ("rng_key",),
    "HutchinsonState": ("key",),
}


def restart(
    tx: optax.GradientTransformation,
    state: Tree,
    trained: Tree,
    kept: Mapping[str, tuple[str, ...]] = KEPT,
) -> Tree:
    """`state` as `tx.init(trained)` makes it, but for the counts of schedules: a reset of a phase.

    kept: name of a NamedTuple class -> its fields that are kept; every other field, and every class
    that is not listed, is restarted. For a state of your own: `kept=KEPT | {"MyState": ("count",)}`.

    Where one count is both (Prodigy, D-Adaptation, MoMo, MADGRAD, ADOPT correct a bias and read a
    schedule with it) it is restarted; give such a schedule through `optax.inject_hyperparams`, whose
    count is kept. A reset in the middle of an accumulation (MultiSteps, apply_every) drops the
    gradients of the old phase: that one update is the smaller for it, and none is delayed.

    Pure; under jit it changes neither shapes nor dtypes. Raises ValueError where state is not tx's.
    """
    fresh = tx.init(trained)
    _check(fresh, state)
    return _graft(fresh, state, kept)


def zero_units(tx: optax.GradientTransformation, state: Tree, trained: Tree, keep: Tree) -> Tree:
    """`state` with 0 where keep is 0, in the leaves that have a parameter's shape.

    keep: like trained, or a prefix of it; leaves of 0 and 1 that broadcast to the parameter, 0 on the
    weights of units that were just pruned or regrown. Where it is 1 every bit stays.

    Zeroed: mu and nu of the Adam family, LAMB, NovoGrad and Lion, traces, averages (ema), RMSProp's,
    AdaGrad's and unfactored Adafactor's squares, accumulated gradients. Kept, since no entry of theirs
    belongs to one weight alone: Adafactor's factored rows and columns, SM3's and GaLore's, the history
    of L-BFGS, the norms per layer of NovoGrad, every count and schedule. So the next Adam step of a
    zeroed weight is 3.2 times a first one: the count that corrects the bias is shared by the tree.

    For state that does not start at 0 (AdaGrad's accumulators, the iterates of schedule_free and DoG)
    use `restart_units`. Pure, jittable. Raises ValueError for a keep that does not fit.
    """
    _check(jax.eval_shape(tx.init, trained), state)
    return _where_kept(jnp.zeros_like, trained, keep, state)


def restart_units(tx: optax.GradientTransformation, state: Tree, trained: Tree, keep: Tree) -> Tree:
    """`zero_units` with the value of `tx.init(trained)` in the place of 0."""
    fresh = tx.init(trained)
    _check(fresh, state)
    return _where_kept(lambda leaf, new: new.astype(leaf.dtype), trained, keep, state, fresh)


def map_owned(visit: Callable[..., Any], trained: Tree, state: Tree, *rest: Tree) -> Tree:
    """visit(keys, leaf, *rest leaves) on each leaf of state that belongs to trained's leaf at keys.

    The shape is not looked at: Adafactor's rows of a kernel belong to that kernel. Other leaves stay.
    """
    paths = {keys for keys, _ in jax.tree_util.tree_leaves_with_path(trained)}

    def each(keys, leaf, *others):
        for path in (keys, keys[:-1]):
            for start in range(len(path) + 1):  # the longest tail first
                if path[start:] in paths:
                    return visit(path[start:], leaf, *others)
        return leaf

    return jax.tree_util.tree_map_with_path(each, state, *rest)


def _where_kept(fill: Callable[..., Any], trained: Tree, keep: Tree, state: Tree, *rest: Tree):
    factors = _factors(keep, trained)

    def visit(keys, leaf, *others):
        shape, factor = factors[keys]
        if jnp.shape(leaf) != shape:
            return leaf
        return jnp.where(factor != 0, leaf, fill(leaf, *others))

    return map_owned(visit, trained, state, *rest)


def _factors(keep: Tree, trained: Tree) -> dict[Any, tuple[tuple[int, ...], jax.Array]]:
    """Keys of each leaf of trained -> its shape and its factors."""
    wide = jax.tree.leaves(jax.tree.broadcast(keep, trained))
    found = {}
    for (keys, leaf), factor in zip(
        jax.tree_util.tree_leaves_with_path(trained), wide, strict=True
    ):
        shape, factor = jnp.shape(leaf), jnp.asarray(factor)
        ones = (1,) * (len(shape) - factor.ndim) + factor.shape
        if len(ones) != len(shape) or any(
            n not in (1, s) for n, s in zip(ones, shape, strict=True)
        ):
            raise ValueError(
                f"keep of {path_of(keys)} is {factor.shape}: expected to broadcast to {shape}"
            )
        found[keys] = shape, factor
    return found


def _graft(fresh: Tree, old: Tree, kept: Mapping[str, tuple[str, ...]]) -> Tree:
    def merge(new, was):
        if not _is_listed(new, kept):
            return new
        fields = kept[type(new).__name__]
        return new._replace(
            **{
                name: getattr(was, name)
                if name in fields
                else _graft(getattr(new, name), getattr(was, name), kept)
                for name in new._fields
            }
        )

    return jax.tree.map(merge, fresh, old, is_leaf=lambda node: _is_listed(node, kept))


def _is_listed(node: Any, kept: Mapping[str, tuple[str, ...]]) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields") and type(node).__name__ in kept


def _check(fresh: Tree, state: Tree) -> None:
    """A state that another transform made, or that lost its classes on the way, is an error."""
    expected, given = jax.tree.structure(fresh), jax.tree.structure(state)
    if expected != given:
        raise ValueError(
            f"The state is not one of this transform on this tree:\n{given}\nexpected:\n{expected}"
        )
