"""How many multiply-accumulates each entry of a weight takes part in, read off the traced network.

`apply` is traced on shapes alone, and each weight is followed from the parameters through whatever
only rearranges, scales or maps it, into the contractions (dot_general, conv_general_dilated) that
multiply by it. So any function of nested dicts can be counted, whatever library wrote it.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
from jax.extend import core

from sparsity.units.origins import CONSTANT, Origin, joined, merged
from sparsity.units.partition import leaves

FIXED = None  # the tally's key for products that involve no weight, beside the paths

# They multiply, in a way that is not read here.
UNREAD = frozenset({"ragged_dot_general", "ragged_dot", "scaled_matmul", "ffi_call"})


class Uses(NamedTuple):
    """What one example costs in multiply-accumulates.

    per_entry: path -> MACs that each entry of that weight takes part in; 0 for biases, norms and
               lookups. A Fraction where entries differ (only a part is used): then it is the mean.
    entries:   path -> number of entries of that leaf.
    fixed:     MACs that involve no weight: activations times activations, as in attention.
    """

    per_entry: dict[str, int | Fraction]
    entries: dict[str, int]
    fixed: int


def multiplies(apply: Callable[..., Any], params: Any, *inputs: Any, examples: int = 1) -> Uses:
    """Count the MACs of `apply(params, *inputs)` for one example; nothing is computed.

    `params` and `inputs` are trees of arrays or of jax.ShapeDtypeStruct. The inputs hold `examples`
    examples: what is counted is divided by it, and ValueError if that leaves a remainder. Paths are
    relative to `params`.

    - Dense layers count 1 per entry and position. A convolution counts every output position times
      the kernel, padding included, as is usual: 4,089,184,256 for ResNet-50 at 224 x 224. Along
      dilated inputs (transposed convolutions) it is every input position times the kernel.
    - Elementwise products are no MACs. A loop counts as often as it runs; branches of a condition
      must cost the same. What `apply` closes over is a constant, not a weight.
    - A weight that is scaled by a smaller one (a gate, a norm's scale) remains that weight. Where
      two of equal size are multiplied elementwise, neither can be charged: ValueError, fold them
      first. A contraction of two weights is charged to the right operand, and its result counts as
      an activation, as is right for learned queries; fold a low-rank W = UV first if it is meant to
      be a weight.
    - Anything that might multiply and cannot be read (a Pallas kernel, a loop of unknown length
      with contractions in it) is a ValueError: count the plain form of the network.
    """
    if examples < 1:
        raise ValueError(f"examples={examples}: expected at least 1")
    shapes = leaves(jax.eval_shape(lambda tree: tree, params))
    entries = {path: math.prod(leaf.shape) for path, leaf in shapes.items()}
    traced = jax.make_jaxpr(apply)(params, *inputs)
    origins: list[Origin] = [({path: Fraction(1)},) for path in entries]
    origins += [None] * (len(traced.jaxpr.invars) - len(origins))
    tally = _tally()
    _Walk(entries, tally).run(traced, origins, 1)
    return Uses(
        {path: _per(path, tally[path], n, examples) for path, n in entries.items()},
        entries,
        int(_per("the products of activations", tally[FIXED], 1, examples)),
    )


def _per(what: str, macs: Fraction | int, entries: int, examples: int) -> int | Fraction:
    if macs % examples:
        raise ValueError(
            f"{what}: {macs} MACs for {examples} examples do not divide evenly, so some of them "
            "do not belong to an example; trace the network with one example"
        )
    uses = Fraction(macs, examples * max(entries, 1))
    return int(uses) if uses.denominator == 1 else uses


class _Walk(NamedTuple):
    """One pass over a jaxpr and those nested in it, adding MACs to `tally` (path or FIXED -> MACs).

    entries: path -> entries of that weight.
    """

    entries: Mapping[str, int]
    tally: defaultdict[str | None, Fraction]

    def run(self, jaxpr: Any, origins: Sequence[Origin], times: int) -> list[Origin]:
        """The origins of the outputs, given those of the inputs; all counts are times `times`."""
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        known = dict(zip(jaxpr.invars, origins, strict=True))
        known |= dict.fromkeys(jaxpr.constvars, CONSTANT)

        def read(atom: Any) -> Origin:
            return CONSTANT if isinstance(atom, core.Literal) else known[atom]

        for equation in jaxpr.eqns:
            outs = self.step(equation, [read(atom) for atom in equation.invars], times)
            known |= dict(zip(equation.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def step(self, equation: Any, ins: list[Origin], times: int) -> list[Origin]:
        name = equation.primitive.name
        if name in CONTRACTIONS:
            return [self.charge(ins, times * CONTRACTIONS[name](equation), name)]
        if name == "concatenate":
            sizes = [math.prod(shape) for shape in _shapes(equation.invars)]
            return [joined(ins, sizes, self.entries)]
        if name == "scan":
            return self.scan(equation, ins, times)
        if name == "cond":
            return self.cond(equation, ins, times)
        if name == "optimization_barrier":
            return ins
        called = _called(equation)
        if called is not None:
            return self.run(called, ins, times)
        self.refuse_hidden(equation)
        return [merged(ins, self.entries)] * len(equation.outvars)

    def charge(self, ins: list[Origin], macs: int, name: str) -> Origin:
        """Book a contraction's MACs on the weight among its operands, the right one first."""
        left, right = ins
        if left == CONSTANT and right == CONSTANT:
            return CONSTANT  # computed once, whatever the input
        owners = right or left or ({FIXED: Fraction(1)},)
        if len(owners) > 1:
            paths = " and ".join(sorted(repr(p) for owner in owners for p in owner))
            raise ValueError(
                f"{name}: an operand mixes {paths}, which are of one size, so its MACs cannot be "
                "charged to either; fold them into one weight first"
            )
        for path, share in owners[0].items():
            self.tally[path] += share * macs
        return None

    def scan(self, equation: Any, ins: list[Origin], times: int) -> list[Origin]:
        """A loop of known length. Its inputs are constants, carry and slices, its outputs carry and
        stacked slices; only what is sliced or stacked differs in rank from the body's variable."""
        body = equation.params["jaxpr"]
        inner = getattr(body, "jaxpr", body)
        carried = _same_rank(equation.outvars, inner.outvars)
        first = _same_rank(equation.invars, inner.invars) - carried
        consts, carry, slices = ins[:first], ins[first : first + carried], ins[first + carried :]
        while True:  # until the carry comes out as it went in; it can only grow
            outs = _Walk(self.entries, _tally()).run(body, [*consts, *carry, *slices], 1)
            grown = [merged(pair, self.entries) for pair in zip(carry, outs[:carried], strict=True)]
            if grown == carry:
                break
            carry = grown
        return self.run(body, [*consts, *carry, *slices], times * equation.params["length"])

    def cond(self, equation: Any, ins: list[Origin], times: int) -> list[Origin]:
        tallies, outs = [], []
        for branch in equation.params["branches"]:
            tallies.append(_tally())
            outs.append(_Walk(self.entries, tallies[-1]).run(branch, ins[1:], times))
        if any(tally != tallies[0] for tally in tallies):
            raise ValueError("the branches of a cond differ in MACs, so there is no one count")
        for path, macs in tallies[0].items():
            self.tally[path] += macs
        return [merged(out, self.entries) for out in zip(*outs, strict=True)]

    def refuse_hidden(self, equation: Any) -> None:
        """ValueError if a primitive that is not read multiplies, itself or in what it calls."""
        hidden = _Walk(self.entries, _tally())
        for jaxpr in core.jaxprs_in_params(equation.params):
            hidden.run(jaxpr, [None] * len(jaxpr.invars), 1)
        if hidden.tally or equation.primitive.name in UNREAD:
            raise ValueError(
                f"cannot count the MACs in {equation.primitive.name!r}: count the network in plain "
                "jax.numpy, jax.lax.scan and jax.lax.conv_general_dilated instead"
            )


def _tally() -> defaultdict[str | None, Fraction]:
    return defaultdict(Fraction)


def _called(equation: Any) -> Any:
    """The jaxpr that an equation merely calls (jit, remat, custom_jvp, ...), or None."""
    for key in ("jaxpr", "call_jaxpr", "call"):
        jaxpr = equation.params.get(key)
        inner = getattr(jaxpr, "jaxpr", jaxpr)
        if isinstance(inner, core.Jaxpr) and _shapes(inner.invars) == _shapes(equation.invars):
            return jaxpr
    return None


def _same_rank(outer: Sequence[Any], inner: Sequence[Any]) -> int:
    return sum(len(o) == len(i) for o, i in zip(_shapes(outer), _shapes(inner), strict=True))


def _shapes(variables: Sequence[Any]) -> list[tuple[int, ...]]:
    return [variable.aval.shape for variable in variables]


def _dot_macs(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = *_shapes(equation.invars[:1]), *_shapes(equation.outvars)
    return math.prod(out) * math.prod(left[axis] for axis in contracted)


def _conv_macs(equation: Any) -> int:
    """Positions times examples times kernel; the kernel's input features are those of one group."""
    left, kernel, out = *_shapes(equation.invars), *_shapes(equation.outvars)
    spec = equation.params["dimension_numbers"]
    positions = 1
    for axis, dilation in enumerate(equation.params["lhs_dilation"], 2):
        positions *= left[spec.lhs_spec[axis]] if dilation > 1 else out[spec.out_spec[axis]]
    return out[spec.out_spec[0]] * positions * math.prod(kernel)


CONTRACTIONS = {"dot_general": _dot_macs, "conv_general_dilated": _conv_macs}
