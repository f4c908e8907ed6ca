"""A network's function with block-sparse products where it multiplies by a packed weight.

The function is traced on the shapes of its dense weights, and what was traced is run again with packed ones.
So it may come from any library: nothing is asked of it but that it is a function of a tree of arrays.
A packed weight is followed through casts, transposes, calls and scans over stacked layers. Where it is
used in any other way it is unpacked there, and why is written down.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from sparsity.kernels.calls import Call
from sparsity.kernels.packed import PackedMatrix
from sparsity.surgery.contractions import convolution, dot
from sparsity.surgery.held import MOVES, Held, held, packed_one, sliced
from sparsity.units.partition import leaves, path_of

CONTRACTIONS = {"dot_general": dot, "conv_general_dilated": convolution}

Uses = dict[str, list[Call | str]]


def substituted(
    apply: Callable[..., Any],
    params: Any,
    path: str = "auto",
    refusal: Callable[[Call], str] = lambda call: "",
) -> Callable[..., tuple[Any, Uses]]:
    """run(weights, *inputs) -> (what `apply(params, *inputs)` gives, how each packed weight was used).

    apply:   (tree of arrays, *inputs) -> outputs, traceable.
    params:  the tree, of arrays or of shapes.
    path:    of the products: "auto", "sparse" or "dense", as for `ops.block_sparse_matmul`.
    refusal: why there should be no product of live blocks in a place, in words, or "".
    weights: path -> array or PackedMatrix of the leaf's shape and dtype, or a pair of both: then the array is
             taken wherever it would have to be unpacked.
    The uses are, by path and once per place, the product's facts, or the reason why the weight was unpacked.
    """
    shapes = {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in leaves(params).items()}
    tree = jax.tree_util.tree_map_with_path(lambda keys, _: shapes[path_of(keys)], params)

    def run(weights: Mapping[str, Any], *inputs: Any) -> tuple[Any, Uses]:
        check_fit(shapes, weights)
        traced, out = jax.make_jaxpr(apply, return_shape=True)(tree, *inputs)
        uses: Uses = {
            name: [] for name, w in weights.items() if isinstance(packed_one(w), PackedMatrix)
        }
        walk = _Walk(uses, path, refusal)
        given = [held(name, weights[name]) for name in shapes] + jax.tree.leaves(inputs)
        found = walk.run(traced, given)
        return jax.tree.unflatten(
            jax.tree.structure(out), walk.unpacked(found, "given back")
        ), walk.uses

    return run


def check_fit(shapes: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
    """ValueError where weights are not those of a network: names, shapes or dtypes."""
    if odd := sorted(shapes.keys() ^ weights.keys()):
        where = "the network has no" if odd[0] in weights else "there is no"
        raise ValueError(f"{where} weight {odd[0]!r}")
    for path, asked in shapes.items():
        found = packed_one(weights[path])
        if (tuple(found.shape), found.dtype) != (tuple(asked.shape), asked.dtype):
            raise ValueError(
                f"{path!r} is {found.dtype}{list(found.shape)}, and the network takes "
                f"{asked.dtype}{list(asked.shape)}"
            )


class _Walk(NamedTuple):
    """One pass over a jaxpr and those nested in it; `uses` is filled on the way."""

    uses: Uses
    path: str
    refusal: Callable[[Call], str]

    def run(self, jaxpr: Any, given: Sequence[Any]) -> list[Any]:
        """The outputs, arrays or Held, of a jaxpr from its inputs."""
        consts, jaxpr = getattr(jaxpr, "consts", ()), getattr(jaxpr, "jaxpr", jaxpr)
        known = dict(zip(jaxpr.invars, given, strict=True))
        known |= dict(zip(jaxpr.constvars, consts, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, core.Literal) else known[atom]

        for equation in jaxpr.eqns:
            found = self.step(equation, [read(atom) for atom in equation.invars])
            known |= dict(zip(equation.outvars, found, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def step(self, equation: Any, ins: list[Any]) -> list[Any]:
        """The outputs of one equation."""
        name, params = equation.primitive.name, equation.params
        sides = [i for i, value in enumerate(ins) if isinstance(value, Held)]
        if not sides:
            return _bound(equation, ins)
        if name in MOVES:
            return [MOVES[name](params, ins[0])]
        if name in CONTRACTIONS and len(sides) == 1:
            return self.contract(equation, ins, sides[0])
        if name == "scan":
            return self.scan(equation, ins)
        if (called := _called(equation)) is not None:
            return self.run(called, ins)
        return _bound(equation, self.unpacked(ins, f"used by {name}"))

    def contract(self, equation: Any, ins: list[Any], side: int) -> list[Any]:
        """A block-sparse product, or the equation as it stands with the weight unpacked."""
        weight, x = ins[side], ins[1 - side]
        make = CONTRACTIONS[equation.primitive.name]
        found = make(equation.params, x, weight.matrix, side, self.path)
        reason = found if isinstance(found, str) else self.refusal(found.call)
        if isinstance(found, str) or reason:
            return _bound(equation, self.unpacked(ins, reason))
        self.uses[weight.path].append(found.call)
        return [found.run()]

    def scan(self, equation: Any, ins: list[Any]) -> list[Any]:
        """A scan that takes one matrix of a stack in each turn."""
        params, (first, carried) = equation.params, _parts(equation)
        consts = self.unpacked(ins[:first], "held over a scan")
        carry = self.unpacked(ins[first : first + carried], "carried by a scan")
        slices = [self.sliceable(value) for value in ins[first + carried :]]
        paths = [value.path if isinstance(value, Held) else "" for value in slices]

        def body(carry: Any, turn: Any) -> Any:
            parts = [sliced(path, x) for path, x in zip(paths, turn, strict=True)]
            outs = self.run(params["jaxpr"], [*consts, *carry, *parts])
            outs = self.unpacked(outs, "given back by a scan")
            return outs[:carried], outs[carried:]

        given = [value[1:] if isinstance(value, Held) else value for value in slices]
        static = {key: params[key] for key in ("length", "reverse", "unroll")}
        carry, stacked = jax.lax.scan(body, carry, given, **static)
        return [*carry, *stacked]

    def sliceable(self, value: Any) -> Any:
        """A stack along the first axis as it is; any other packed weight unpacked."""
        if isinstance(value, Held) and value.matrix.reading.stack != (0,):
            return self.unpacked([value], "cut into slices by a scan")[0]
        return value

    def unpacked(self, values: Sequence[Any], reason: str) -> list[Any]:
        """The values as arrays; for the packed ones the reason is written down."""
        for value in values:
            if isinstance(value, Held):
                self.uses[value.path].append(reason)
        return [value.dense if isinstance(value, Held) else value for value in values]


def _bound(equation: Any, ins: Sequence[Any]) -> list[Any]:
    params = equation.primitive.get_bind_params(equation.params)
    found = equation.primitive.bind(*ins, **params)
    return list(found) if equation.primitive.multiple_results else [found]


def _called(equation: Any) -> Any:
    """The jaxpr that an equation merely calls (jit, remat, custom_jvp, ...), or None."""
    for key in ("jaxpr", "call_jaxpr"):
        jaxpr = equation.params.get(key)
        inner = getattr(jaxpr, "jaxpr", jaxpr)
        if isinstance(inner, core.Jaxpr) and _shapes(inner.invars) == _shapes(equation.invars):
            return jaxpr
    return None


def _parts(equation: Any) -> tuple[int, int]:
    """How many inputs of a scan are constants, and how many are carried: what is sliced or stacked differs
    in rank from the body's variable. (The parameters that say so have other names in each version.)"""
    body = getattr(equation.params["jaxpr"], "jaxpr", equation.params["jaxpr"])
    whole = lambda outer, inner: sum(
        len(a) == len(b) for a, b in zip(_shapes(outer), _shapes(inner), strict=True)
    )
    carried = whole(equation.outvars, body.outvars)
    return whole(equation.invars, body.invars) - carried, carried


def _shapes(variables: Sequence[Any]) -> list[tuple[int, ...]]:
    return [variable.aval.shape for variable in variables]
