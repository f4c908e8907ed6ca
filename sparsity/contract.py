"""What a method is: five pure verbs over a state, and how methods are chained.

Every verb defaults to what the dense network does, so a method writes only what it changes.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparsity.plan.phases import Kind
from sparsity.units.partition import Units, leaves

Hook = Callable[[Callable[..., Any], Any, Any], Any]


NOTHING: Mapping[str, Any] = MappingProxyType({})


class State(NamedTuple):
    """params: trained. gates: trained, one number per unit. memory: not trained (masks, keys)."""

    params: Any
    gates: Any = ()
    memory: Any = ()


class Applied(NamedTuple):
    """What the model is run with.

    hooks:       module path -> Hook, what cannot be a transform of parameters.
    multipliers: the soft number per unit, by group, before the mask; it is in `params` already.
    scales:      the same where it is not, since `context.unspread` leaves it to the model's products.
    """

    params: Any
    hooks: Mapping[str, Hook] = NOTHING
    multipliers: Mapping[str, jax.Array] = NOTHING
    scales: Mapping[str, jax.Array] = NOTHING


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
    """Where a run stands.

    phase:    the kind of phase (static: one compilation per kind).
    progress: through the phase, in [0, 1] (traced).
    keep:     units kept per group and index, int32 (traced).
    target:   the same at the plan's end.
    regrow:   whether an update may revive dead units.
    key:      randomness; None is deterministic.
    zeroed:   whether dead weights are known to be 0 already, so that a mask of weights has nothing to do
              in the forward pass and masks the gradient alone (static; the training step says so).
    """

    phase: Kind = dataclasses.field(metadata={"static": True}, default=Kind.DENSE)
    progress: Any = 0.0
    keep: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    target: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    regrow: Any = True
    key: Any = None
    zeroed: bool = dataclasses.field(metadata={"static": True}, default=False)
    unspread: bool = dataclasses.field(metadata={"static": True}, default=False)

    @property
    def masked(self) -> bool:
        """Whether masks act: always but in a dense phase."""
        return self.phase != Kind.DENSE


class Needs(NamedTuple):
    """What `Signals` must hold at a tick, averaged over `batches` batches."""

    batches: int = 0
    grads: bool = False
    grads_squared: bool = False
    capture: tuple[str, ...] = ()

    def union(self, other: "Needs") -> "Needs":
        """What serves both."""
        return Needs(
            max(self.batches, other.batches),
            self.grads or other.grads,
            self.grads_squared or other.grads_squared,
            tuple(dict.fromkeys((*self.capture, *other.capture))),
        )


class Signals(NamedTuple):
    """What a tick may look at.

    grads:         mean over batches of dLoss/d(applied params), so that dead units are seen.
    grads_squared: mean over batches of the squares of each batch's gradient.
    """

    grads: Any = None
    grads_squared: Any = None
    activity: Any = ()
    capture: Any = None


def _init(key: jax.Array, params: Any) -> State:
    return State(params)


def _apply(state: State, context: Context) -> Applied:
    return Applied(state.params)


def _penalty(state: State, context: Context, signals: Signals) -> jax.Array:
    return jnp.float32(0.0)


def _update(state: State, context: Context, signals: Signals) -> State:
    return state


def _masks(state: State, context: Context) -> Units:
    return {}


class Method(NamedTuple):
    """The five verbs.

    init:    the dense network, wrapped: apply(init(params)) gives the same function.
    apply:   what the model is run with; differentiable in params and gates.
    penalty: a scalar that is added to the loss.
    update:  new masks, at ticks: not differentiated, may look at data, changes gates and memory only.
    masks:   the hard 0/1 decision per unit; groups that are not named are alive.
    needs:   what `update` reads in its signals.
    absorbs_zero: whether a weight that was set to 0 learns again (under w = v|v| it never does).
    """

    init: Callable[[jax.Array, Any], State] = _init
    apply: Callable[[State, Context], Applied] = _apply
    penalty: Callable[[State, Context, Signals], jax.Array] = _penalty
    update: Callable[[State, Context, Signals], State] = _update
    masks: Callable[[State, Context], Units] = _masks
    needs: Needs = Needs()
    absorbs_zero: bool = True


def chain(*methods: Method) -> Method:
    """Composes methods: each sees the parameters as those before it leave them.

    Only the first may reparametrise (change `params` in its init): a later one has no parameters of
    its own. Masks of the same group are multiplied.
    """

    def part(state: State, i: int, params: Any) -> State:
        return State(params, state.gates[i], state.memory[i])

    def init(key: jax.Array, params: Any) -> State:
        states: list[State] = []
        seen, context = params, Context()
        for i, method in enumerate(methods):
            state = method.init(jax.random.fold_in(key, i), seen)
            if i and not _same(state.params, seen):
                raise ValueError(f"method {i} of the chain reparametrises: only the first may")
            seen = method.apply(state, context).params
            states.append(state)
        first = states[0].params if states else params
        return State(first, tuple(s.gates for s in states), tuple(s.memory for s in states))

    def steps(state: State, context: Context):
        """(member, its state, what it leaves) in order."""
        seen = state.params
        for i, method in enumerate(methods):
            own = part(state, i, seen)
            applied = method.apply(own, context)
            yield method, own, applied
            seen = applied.params

    def apply(state: State, context: Context) -> Applied:
        params, hooks, multipliers, scales = state.params, {}, {}, {}
        for _, _, applied in steps(state, context):
            params = applied.params
            hooks |= applied.hooks
            multipliers = _products(multipliers, applied.multipliers)
            scales = _products(scales, applied.scales)
        return Applied(params, hooks, multipliers, scales)

    def penalty(state: State, context: Context, signals: Signals) -> jax.Array:
        return sum(
            (m.penalty(own, context, signals) for m, own, _ in steps(state, context)),
            jnp.float32(0.0),
        )

    def update(state: State, context: Context, signals: Signals) -> State:
        new = [m.update(own, context, signals) for m, own, _ in steps(state, context)]
        return State(state.params, tuple(s.gates for s in new), tuple(s.memory for s in new))

    def masks(state: State, context: Context) -> Units:
        alive: Units = {}
        for method, own, _ in steps(state, context):
            for name, mask in method.masks(own, context).items():
                alive[name] = alive[name] & mask if name in alive else mask
        return alive

    needs = Needs()
    for method in methods:
        needs = needs.union(method.needs)
    absorbs = all(method.absorbs_zero for method in methods)
    return Method(init, apply, penalty, update, masks, needs, absorbs)


def _products(some: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers by group, multiplied where both have some."""
    return {**some, **{n: x * some[n] if n in some else x for n, x in more.items()}}


def _same(a: Any, b: Any) -> bool:
    one, other = leaves(a), leaves(b)
    return one.keys() == other.keys() and all(one[k] is other[k] for k in one)
