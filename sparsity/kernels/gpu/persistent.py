"""Hopper's threads at work: one group copies tiles ahead, two multiply them, over a ring of stages.

A program is a block of three warpgroups of 128 threads, one program per multiprocessor; each takes the items of
its list in turn. The last group copies what the next steps need into shared memory, as many stages ahead as
there are, over the end of an item too; the others wait for a stage, feed the tensor cores and give it back. An
item's results leave by way of shared memory while the next item is under way.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels.gpu.shares import PROGRAMS, SIDES
from sparsity.kernels.manual import vary_alike, vary_like, varying

# Groups that multiply. With the one that copies they share 65,536 registers: 2 * 128 * 224 + 128 * 56.
GROUPS = 2
FEW_REGISTERS, MANY_REGISTERS = 56, 224
Role = Callable[[Any, Any, Any], Any]


class Launch(NamedTuple):
    """How the kernels run.

    programs:  blocks of threads, one per multiprocessor.
    stages:    of the ring, at most; shared memory may allow fewer.
    interpret: pallas's parameters to interpret with, in tests.
    panels:    sides of the blocks that `panel` may take, where it is worthwhile; () for none.
    """

    programs: int = PROGRAMS
    stages: int = 8
    interpret: Any = None
    panels: tuple[int, ...] = SIDES

    def reach(self, axis: "Axis") -> int:
        """How many entries an axis needs: those that are copied if it is interpreted, else few or none more.

        What the hardware copies from beyond an array is 0, and what it copies there is dropped.
        """
        if self.interpret is not None:
            return max(axis.size, axis.copied)
        whole = max(axis.size, axis.box)
        return -(-whole // axis.multiple) * axis.multiple


class Axis(NamedTuple):
    """An axis of an array in the device's memory: its entries, how far it is copied, and in boxes of how many.

    multiple: of entries that tiles in shared memory have along it.
    """

    size: int
    copied: int
    box: int
    multiple: int


class Ring(NamedTuple):
    """The stages' barriers: `full` when all copies of a step have arrived, `free` when all groups are done.

    first: the ring's first barrier, where several rings share an array of them.
    """

    stages: int
    full: Any
    free: Any
    first: Any = 0

    def claim(self, step: jax.Array) -> tuple[jax.Array, Any]:
        """The step's stage, once no one reads it, and the barrier that its copies report to."""
        stage = lax.rem(step, self.stages)
        plgpu.barrier_wait(self.free.at[self.first + stage])
        return stage, self.full.at[self.first + stage]

    def filled(self, step: jax.Array) -> jax.Array:
        """The step's stage, once its copies have arrived."""
        stage = lax.rem(step, self.stages)
        plgpu.barrier_wait(self.full.at[self.first + stage])
        return stage

    def release(self, step: jax.Array) -> None:
        """This group reads the step's stage no more."""
        plgpu.barrier_arrive(self.free.at[self.first + lax.rem(step, self.stages)])

    def every(self, act: Callable[[Any], None]) -> None:
        """`act` on each stage's barrier `free`."""
        for stage in range(self.stages):
            act(self.free.at[self.first + stage])


def work(
    items: Any, launch: Launch, ring: Ring, place: Callable[[Any], Any], roles: tuple[Role, Role]
) -> None:
    """The body of a kernel: every group takes this program's share of `items` in its role.

    place(item): what the roles know of an item from tables. It is read while the one before is worked on, as
    what memory answers takes hundreds of cycles.
    roles: copy and multiply, (group, place, step) -> step: the number of steps so far.
    """
    group, (copy, multiply) = lax.axis_index("group"), roles
    in_turn = lambda one: _in_turn(items, launch.programs, place, functools.partial(one, group))

    @pl.when(group == GROUPS)
    def _():
        plgpu.set_max_registers(FEW_REGISTERS, action="decrease")
        in_turn(copy)
        # No arrival is left over when the barriers go.
        ring.every(plgpu.barrier_wait)

    @pl.when(group < GROUPS)
    def _():
        plgpu.set_max_registers(MANY_REGISTERS, action="increase")
        ring.every(plgpu.barrier_arrive)
        in_turn(multiply)
        plgpu.wait_smem_to_gmem(0)


def total(
    shape: tuple[int, int], steps: Any, step: Any, ring: Ring, add: Callable[[Any, Any], None]
) -> jax.Array:
    """float32, the sum over `steps` steps from `step` on of what add(accumulator, stage) multiplies."""

    def summed(acc):
        def one(i, _):
            add(acc, ring.filled(step + i))
            # All but the last product are done, and with them the step before.
            plgpu.wgmma_wait(1)
            pl.when(i > 0)(lambda: ring.release(step + i - 1))

        lax.fori_loop(0, steps, one, None)
        return acc[...]

    found = pl.run_scoped(summed, plgpu.ACC(shape, jnp.float32))
    pl.when(steps > 0)(lambda: ring.release(step + steps - 1))
    return found


def given(*tables: jax.Array | None) -> tuple[jax.Array, ...]:
    """The tables, with the first one for each that a kernel does not read: making one would be a kernel more."""
    first = next(table for table in tables if table is not None)
    return tuple(first if table is None else table for table in tables)


def blocks(size: int, side: int, beyond: int = 0) -> Axis:
    """An axis in whole blocks, of which so many are copied beyond its end."""
    return Axis(size, (-(-size // side) + beyond) * side, side, side)


def reaching(x: jax.Array, axes: tuple[Axis, ...], launch: Launch) -> jax.Array:
    """x with zeros as far as the copies of its axes need it."""
    return jnp.pad(x, [(0, launch.reach(a) - n) for a, n in zip(axes, x.shape, strict=True)])


def hold(value: jax.Array, held: Any) -> None:
    """The value in shared memory, ready to be copied from there, when what was there has been."""
    plgpu.wait_smem_to_gmem(0, wait_read_only=True)
    held[...] = value
    plgpu.commit_smem()


def swizzled(wide: int, dtype: Any) -> tuple[Any, ...]:
    """How wgmma wants tiles to lie in shared memory: rows of up to 128 bytes."""
    size = jnp.dtype(dtype).itemsize
    wide = min(wide, 128 // size)
    return plgpu.TilingTransform((8, wide)), plgpu.SwizzleTransform(wide * size)


def barriers(copies: int, stages: int) -> dict[str, Any]:
    """The ring's, for a step of so many copies."""
    return {
        "full": plgpu.Barrier(num_arrivals=copies, num_barriers=stages),
        "free": plgpu.Barrier(num_arrivals=GROUPS, num_barriers=stages),
    }


def call(
    body: Callable[..., None],
    name: str,
    args: tuple[jax.Array, ...],
    out: jax.ShapeDtypeStruct,
    scratch: dict[str, Any],
    launch: Launch,
    groups: int = GROUPS,
) -> jax.Array:
    """The kernel, every program of it: so many groups that multiply, and one that copies.

    Inside shard_map it varies as its arguments do.
    """
    args = vary_alike(args)
    interpret = {} if launch.interpret is None else {"interpret": launch.interpret}
    run = plgpu.kernel(
        body,
        out_type=out,
        scratch_types=scratch,
        grid=(launch.programs,),
        grid_names=("program",),
        num_threads=groups + 1,
        thread_name="group",
        kernel_name=name,
        **interpret,
    )
    return vary_like(run(*args), varying(args[0]))


def _in_turn(
    items: Any, programs: int, place: Callable[[Any], Any], one: Callable[[Any, Any], Any]
) -> None:
    """`one` of each item that falls to this program, with the steps before it."""
    mine = lax.axis_index("program")
    found = lambda turn: place(jnp.maximum(jnp.minimum(mine + turn * programs, items - 1), 0))

    def each(turn, carried):
        step, known = carried
        following = found(turn + 1)
        return one(known, step), following

    turns = (items - mine + programs - 1) // programs
    lax.fori_loop(0, turns, each, (jnp.int32(0), found(0)))
