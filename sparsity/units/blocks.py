"""Which weights are cut into blocks, how, and how many blocks each keeps: the resolved table."""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from sparsity.units.masks import kept
from sparsity.units.partition import Group, Partition, Tree, View, leaves, tiles

# Glob patterns ("*" also spans "/") of what stays dense unless a rule of the user's says otherwise.
DENSE = (
    ("*embed*", "an embedding"),
    ("*position*", "an embedding"),
    ("*head/*", "the head"),
    ("*classifier/*", "the head"),
    ("*logits/*", "the head"),
    # Those of several heads or of stacked layers are no vectors.
    ("*/bias", "a bias"),
    ("*/scale", "a norm"),
)
# Projections to several heads, (d, heads, k): the matrix is d by heads*k, not (d*heads) by k.
PER_HEAD = ("*query/kernel", "*key/kernel", "*value/kernel")


class Rule(NamedTuple):
    """How the leaves whose path matches `pattern` are read; the first rule that matches wins.

    pattern: glob on the path ("*" also spans "/"), for example "params/block*/conv*/kernel".
    block:   (rows, cols) entries per block; None leaves the leaf dense.
    density: share of blocks kept, an exact decimal in (0, 1]; None takes the run's.
    rows, cols, batch: axes of the leaf that are merged into the matrix's rows and columns, and axes
             that number independent matrices (layers stacked for scan). None: the last axis is the
             columns, all others are the rows.
    at_least: fewer blocks than this (per independent matrix) stay dense; None takes the run's.
    """

    pattern: str
    block: tuple[int, int] | None = None
    density: Any = None
    rows: tuple[int, ...] | None = None
    cols: tuple[int, ...] | None = None
    batch: tuple[int, ...] = ()
    at_least: int | None = None


class Layer(NamedTuple):
    """One row of the resolved table.

    asked is the density asked for, None where the leaf stays dense and `reason` says why; reachable is
    what whole blocks can give: floor(asked * blocks) / blocks.
    """

    path: str
    shape: tuple[int, ...]
    group: Group | None
    asked: Fraction | None
    reachable: Fraction
    reason: str

    @property
    def entries(self) -> int:
        """Entries of the leaf."""
        return math.prod(self.shape)


def exact(density: Any) -> Fraction:
    """The density as the exact decimal that was written (0.1 is 1/10), in (0, 1].

    Raises ValueError for anything else.
    """
    try:
        value = Fraction(str(density))
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if isinstance(density, bool) or not 0 < value <= 1:
        raise ValueError(
            f"density {density!r} is not a number in (0, 1]; a sparsity of 90% is a density of 0.1"
        )
    return value


def blocks(
    tree: Tree, rules: Sequence[Rule], *, density: Any, at_least: int = 100
) -> tuple[Layer, ...]:
    """Resolves the rules over the leaves of `tree` (arrays or shapes): one row per leaf, in order.

    Leaves that no rule names stay dense. Norms, biases and other vectors, embeddings and the head stay
    dense under a pattern that is broader than they are: only a rule whose pattern spells out what they
    are ("params/head/kernel", "params/embed*") without a leading "*" prunes them. Raises ValueError for
    a pattern that matches nothing, a block larger than a weight that a rule names, axes that do not cover
    the leaf, and a density out of (0, 1].
    """
    run = exact(density)
    found = leaves(tree)
    for rule in rules:
        if not (rule.block is None or _is_block(rule.block)):
            raise ValueError(f"{rule.pattern}: block {rule.block!r} is not two positive integers")
        if rule.density is not None:
            exact(rule.density)
        refuse_unmatched(f"the pattern {rule.pattern!r}", rule.pattern, found)
    return tuple(
        _layer(path, tuple(leaf.shape), _first(path, rules), run, at_least)
        for path, leaf in found.items()
    )


def partition_of(layers: Sequence[Layer]) -> Partition:
    """The groups of the layers that are cut into blocks, by path."""
    return {layer.path: layer.group for layer in layers if layer.group is not None}


def densities(layers: Sequence[Layer]) -> dict[str, Fraction]:
    """The asked density of each group."""
    return {layer.path: layer.asked for layer in layers if layer.asked is not None}


def _first(path: str, rules: Sequence[Rule]) -> Rule | None:
    return next((rule for rule in rules if fnmatch.fnmatchcase(path, rule.pattern)), None)


def _layer(
    path: str, shape: tuple[int, ...], rule: Rule | None, run: Fraction, at_least: int
) -> Layer:
    reason = _why_dense(path, shape, rule)
    if rule is None or rule.block is None or reason:
        return Layer(path, shape, None, None, Fraction(1), reason)
    matrix, axes = _reading(path, shape, rule)
    if any(b > n for b, n in zip(rule.block, matrix, strict=True)):
        if not _broad(rule):
            raise ValueError(
                f"{path}: a block of {rule.block} is larger than the weight, which reads as {matrix}; "
                "take a smaller block, or leave the layer dense with a rule whose block is None"
            )
        return Layer(path, shape, None, None, Fraction(1), f"reads as {matrix}, less than a block")
    group = _group(path, shape, rule, axes)
    least = at_least if rule.at_least is None else rule.at_least
    if group.size < least:
        reason = f"{group.size} blocks, fewer than {least}"
        return Layer(path, shape, None, None, Fraction(1), reason)
    asked = run if rule.density is None else exact(rule.density)
    reachable = Fraction(kept(path, group, asked), group.size)
    return Layer(path, shape, group, asked, reachable, "")


def _why_dense(path: str, shape: tuple[int, ...], rule: Rule | None) -> str:
    if rule is None:
        return "no rule names it"
    if rule.block is None:
        return f"by the rule {rule.pattern!r}"
    if len(shape) - len(rule.batch) < 2:
        return "a vector (norm or bias)"
    for pattern, what in DENSE:
        named = not _broad(rule) and fnmatch.fnmatchcase(rule.pattern.lower(), pattern)
        if fnmatch.fnmatchcase(path.lower(), pattern) and not named:
            return f"{what}: dense by default"
    return ""


def refuse_unmatched(what: str, pattern: str, found: Mapping[str, Any]) -> None:
    """ValueError, with all that there are, where a glob pattern matches the path of no parameter."""
    if not any(fnmatch.fnmatchcase(path, pattern) for path in found):
        listed = "\n  ".join(f"{path} {tuple(leaf.shape)}" for path, leaf in found.items())
        raise ValueError(f"{what} matches no parameter; there are:\n  {listed}")


def _is_block(block: Any) -> bool:
    pair = isinstance(block, tuple | list) and len(block) == 2
    return pair and all(type(b) is int and b > 0 for b in block)


def _broad(rule: Rule) -> bool:
    """Whether the rule sweeps over the net rather than names layers."""
    return rule.pattern.startswith("*") or rule.pattern.split("/", 1)[-1] in ("*", "*/kernel")


def _group(
    path: str, shape: tuple[int, ...], rule: Rule, axes: tuple[tuple[int, ...], ...]
) -> Group:
    assert rule.block is not None
    view = View(path, shape, axes, (*(1,) * len(rule.batch), *rule.block))
    return Group(tiles(view), (view,), batch=len(rule.batch))


def _reading(
    path: str, shape: tuple[int, ...], rule: Rule
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """The matrix's extents (rows, cols), and the runs of axes of the batch, the rows and the columns."""
    free = tuple(a for a in range(len(shape)) if a not in rule.batch)
    per_head = len(free) == 3 and any(fnmatch.fnmatchcase(path, p) for p in PER_HEAD)
    rows, cols = rule.rows, rule.cols
    if cols is not None:
        rows = tuple(a for a in free if a not in cols) if rows is None else rows
    else:
        rows = (free[:1] if per_head else free[:-1]) if rows is None else rows
        cols = tuple(a for a in free if a not in rows)
    if sorted((*rule.batch, *rows, *cols)) != list(range(len(shape))) or not rows or not cols:
        raise ValueError(
            f"{path} of shape {shape}: batch {rule.batch}, rows {rows} and cols {cols} must name each "
            "axis once"
        )
    axes = (*((a,) for a in rule.batch), tuple(rows), tuple(cols))
    return tuple(math.prod(shape[a] for a in run) for run in (rows, cols)), axes


def table(layers: Sequence[Layer]) -> str:
    """The resolved table as text: what each leaf is, how it is cut, what is asked and reachable."""
    rows = cells(layers)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(lines)


def cells(layers: Sequence[Layer]) -> list[tuple[str, ...]]:
    """The same table as texts, a row per leaf under one of names."""
    head = ("path", "shape", "reads as", "block", "grid", "asked", "reachable")
    return [head, *(_row(layer) for layer in layers)]


def _row(layer: Layer) -> tuple[str, ...]:
    shape = "x".join(map(str, layer.shape))
    if layer.group is None:
        return (layer.path, shape, "", "", "", "dense", layer.reason)
    view = layer.group.gated[0]
    reads = " ".join("x".join(str(view.shape[a]) for a in run) for run in view.axes)
    block = "x".join(map(str, view.block[layer.group.batch :]))
    grid = "x".join(map(str, layer.group.grid))
    return (layer.path, shape, reads.replace(" ", " | "), block, grid, *_decimals(layer))


def _decimals(layer: Layer) -> tuple[str, str]:
    assert layer.asked is not None
    return f"{float(layer.asked):g}", f"{float(layer.reachable):.4g}"
