"""Penalties on the norms of units: lambda * sum q(||W_b||), its q^-1 form, its proximal step.

SequentialAttention++ (Yasuda et al., arXiv 2402.17902) shows that differentiable masks are such
penalties in disguise: the Hoff product is the group lasso (q = identity), an l1 penalty on the mask
is q = a^(2/3) (Lemma 2.2), the unnormalised exponential is the `lambert` q (Lemma 2.1).

Everything is in unit space: `norms` maps a group to the norms of its units, shape grid, all >= 0.
At norm 0 a gradient is always finite. `identity` and `log1p` take the slope from the right (1), the
subgradient furthest from 0; `lambert` has slope 0 there. `power` has an infinite slope at 0: there
we take 0, so that a unit that is gone is not pushed (0 is a local minimum of such a penalty). The
same holds for q^-1, which for `lambert` is the one that is infinitely steep at 0.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Units = dict[str, Array]


class Q(NamedTuple):
    """An increasing q with q(0) = 0; every function is elementwise, on arrays of any shape.

    value:   a -> q(a), a >= 0
    inverse: s -> the a with q(a) = s, s >= 0
    prox:    (a, t) -> argmin over z >= 0 of (z - a)^2 / 2 + t q(z), t >= 0; None if we have no
             closed form. Where 0 and a positive z are equally good it is 0.
    """

    name: str
    value: Callable[[Array], Array]
    inverse: Callable[[Array], Array]
    prox: Callable[[Array, Any], Array] | None = None


def plain(q: Q, norms: Mapping[str, Array]) -> Array:
    """sum q(norm) over all units of all groups: a scalar."""
    return _total(jnp.sum(q.value(a)) for a in norms.values())


def outer(
    q: Q,
    norms: Mapping[str, Array],
    across: str = "group",
    batch: Mapping[str, int] | None = None,
) -> Array:
    """q^-1(sum q(norm)), the penalty of Theorem 1.1 (arXiv 2402.17902, objective (1)): a scalar.

    The inner sum runs over the units of one group, then the groups are added (`across="group"`), or
    over all units at once (`across="all"`). `batch` gives for a group how many leading axes of its
    grid number groups of their own (scanned layers).

    Between the sum of the norms (reached where a single unit is alive) and much more: q^-1 of a sum
    over thousands of units leaves the range of float32 (for log1p it is prod(1 + norm) - 1). Use
    `plain` there, or small norms.
    """
    if across == "all":
        return q.inverse(plain(q, norms))
    if across != "group":
        raise ValueError(f"across={across!r}: expected 'group' or 'all'")
    batch = batch or {}
    sums = (
        jnp.sum(q.value(a), axis=tuple(range(batch.get(group, 0), a.ndim)))
        for group, a in norms.items()
    )
    return _total(jnp.sum(q.inverse(s)) for s in sums)


def shrinkage(q: Q, norms: Mapping[str, Array], t: Any) -> Units:
    """The factor in [0, 1] by which the group proximal step multiplies each unit.

    argmin over Z of ||Z - V||^2 / 2 + t q(||Z||) is V * factor, factor = prox(||V||, t) / ||V||;
    it is 0 at V = 0. `t` is the step size times lambda, >= 0, a scalar or an array that broadcasts
    to each grid. ValueError where q has no prox.
    """
    if q.prox is None:
        raise ValueError(
            f"penalty {q.name!r} has no proximal step, as its prox has no closed form here; "
            "those that have one: identity, log1p, power with p = 1/2 or p = 2/3. "
            "Add the penalty to the loss instead"
        )
    return {group: _factor(q.prox, a, t) for group, a in norms.items()}


def _factor(prox: Callable[[Array, Any], Array], a: Array, t: Any) -> Array:
    alive = a > 0
    # prox(a) <= a holds exactly, but for the last bit of a cosine or a cube.
    return jnp.clip(jnp.where(alive, prox(a, t) / jnp.where(alive, a, 1), 0), 0, 1)


def _total(sums: Any) -> Array:
    return jnp.asarray(sum(sums, start=0.0))


# The group lasso.

identity = Q("identity", lambda a: a, lambda s: s, lambda a, t: jnp.maximum(a - t, 0))


def _steep_power(a: Array, p: float) -> Array:
    """a^p with value and slope 0 below the smallest normal number."""
    # The inner `where` keeps the infinite slope at 0 out of the gradient, 0 * inf being NaN.
    normal = a >= jnp.finfo(jnp.result_type(a, float)).tiny
    return jnp.where(normal, jnp.where(normal, a, 1) ** p, 0)


def _half_prox(a: Array, t: Any) -> Array:
    """prox of sqrt (Xu et al. 2012, half thresholding): the largest root of a cubic, or 0."""
    thick = a > 1.5 * jnp.asarray(t) ** (2 / 3)
    cosine = (t / 4) * (jnp.where(thick, a, 1) / 3) ** -1.5
    angle = jnp.arccos(jnp.where(thick, cosine, 0))
    return jnp.where(thick, (2 / 3) * a * (1 + jnp.cos((2 / 3) * (jnp.pi - angle))), 0)


def _two_thirds_prox(a: Array, t: Any) -> Array:
    """prox of a^(2/3): u = z^(1/3) is the largest root of u^4 - a u + 2t/3, or 0.

    The quartic is (u^2 - s u + r)(u^2 + s u + r') where s^2 = y solves y^3 - (8t/3) y = a^2.
    """
    thick = a > 2 * (2 * jnp.asarray(t) / 3) ** 0.75
    # A t that moves a by less than its last bit would overflow below.
    free = t <= jnp.finfo(jnp.result_type(a, float)).eps * a ** (4 / 3)
    inside = thick & ~free
    b, t = jnp.where(inside, a, 1), jnp.where(inside, t, 0.1)
    scale = jnp.sqrt(8 * t / 9)
    y = 2 * scale * jnp.cosh(jnp.arccosh((b / scale) * (b / scale**2) / 2) / 3)
    u = (jnp.sqrt(y) + jnp.sqrt(2 * b / jnp.sqrt(y) - y)) / 2
    return jnp.where(inside, jnp.minimum(u**3, b), jnp.where(free, a, 0))


def power(p: float) -> Q:
    """q(a) = a^p, 0 < p < 1. Closed-form prox for p = 1/2 and p = 2/3 only."""
    if not (isinstance(p, int | float) and 0 < p < 1):
        raise ValueError(f"power(p={p!r}): expected 0 < p < 1 (p = 1 is the penalty 'identity')")
    prox = None
    if math.isclose(p, 1 / 2):
        prox = _half_prox
    elif math.isclose(p, 2 / 3):
        prox = _two_thirds_prox
    return Q(f"power({p:g})", partial(_steep_power, p=p), lambda s: s ** (1 / p), prox)


def _log1p_prox(a: Array, t: Any) -> Array:
    """The larger root of z^2 + (1 - a) z + t - a if it is positive and better than 0, or 0."""
    root = jnp.sqrt(jnp.maximum((a + 1) ** 2 - 4 * t, 0))
    # Of the two forms of the root, the one that does not subtract nearly equal numbers.
    small = 2 * (a - t) / jnp.where(a < 1, 1 - a + root, 1)
    z = jnp.maximum(jnp.where(a < 1, small, (a - 1 + root) / 2), 0)
    # What z gains over 0, divided by z: the gain itself may be too small for a float.
    better = z / 2 - a + t * jnp.log1p(z) / jnp.where(z > 0, z, 1) < 0
    return jnp.where(((a + 1) ** 2 >= 4 * t) & better, z, 0)


log1p = Q("log1p", jnp.log1p, jnp.expm1, _log1p_prox)


@jax.custom_jvp
def lambertw(x: Array) -> Array:
    """W(x), the principal branch of w e^w = x, for x >= 0. Derivative exp(-W) / (1 + W)."""
    x = jnp.asarray(x, jnp.result_type(x, float))
    logarithm = jnp.log1p(x)
    w = logarithm * (1 - jnp.log1p(logarithm) / (2 + logarithm))  # within a few percent
    for _ in range(4):  # Halley: the error is cubed each time
        e = jnp.exp(w)
        f = w * e - x
        w = w - f / (e * (w + 1) - (w + 2) * f / (2 * w + 2))
    return w


@lambertw.defjvp
def _lambertw_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    w = lambertw(primals[0])
    # W' = W / (x (1 + W)), in the form that is finite at 0 because W / x = exp(-W).
    return w, tangents[0] * jnp.exp(-w) / (1 + w)


def _lambert_value(a: Array) -> Array:
    w = lambertw(2 * a * a)
    return w * (w + 2) / 4


def _lambert_inverse(s: Array) -> Array:
    w = 4 * s / (1 + jnp.sqrt(1 + 4 * s))  # the positive root of w^2 + 2 w = 4 s
    return _steep_power(w / 2, 0.5) * jnp.exp(w / 2)  # from w e^w = 2 a^2


lambert = Q("lambert", _lambert_value, _lambert_inverse)
"""q(a) = W(2a^2)^2 / 4 + W(2a^2) / 2 = min over w of w^2 + a^2 exp(-2w) (Lemma 2.1).

It is a^2 near 0, so it is not subadditive there and Theorem 1.1 does not speak of it.
"""


_NAMED: dict[str, Callable[..., Q]] = {
    "identity": lambda: identity,
    "power": power,
    "log1p": lambda: log1p,
    "lambert": lambda: lambert,
}


def named(name: str, **keywords: Any) -> Q:
    """The penalty of that name; `power` takes p. ValueError lists what exists."""
    if name not in _NAMED:
        near = difflib.get_close_matches(str(name), _NAMED, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no penalty named {name!r}; there are: {', '.join(_NAMED)}.{hint}")
    expected = {"p"} if name == "power" else set()
    if set(keywords) != expected:
        raise ValueError(
            f"penalty {name!r} takes {sorted(expected) or 'no arguments'}, got {sorted(keywords)}"
        )
    return _NAMED[name](**keywords)
