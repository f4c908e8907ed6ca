"""What a product should cost on a device that nobody has tuned: a roofline for live blocks and one for dense.

A product takes what its multiplications or what its traffic take, whichever is longer where a device overlaps
the two, their sum where it does not. Rates of live blocks fall with the block: tiles of a matrix unit, or
vectors, are then part empty, and x is read again for each block. How far the model is from what was
measured stands in each table of `tuned` and in docs/kernels; where it matters, tune.
"""

from collections.abc import Mapping
from typing import NamedTuple

from sparsity.kernels.calls import Call
from sparsity.kernels.gpu.shares import PROGRAMS, SIDES, Panels

# Rows that a product is taken to have where an export leaves their number open.
NOMINAL_ROWS = 256


class Machine(NamedTuple):
    """A device in a few numbers.

    dense:     dtype -> multiply-add FLOP/s of a dense product.
    live:      dtype -> block side -> FLOP/s on live blocks; between sides the lower one counts, below all
               the rate falls in proportion.
    window:    what a dense convolution takes relative to a dense product of the same FLOPs.
    bandwidth: bytes per second of memory.
    overlaps:  whether traffic hides behind arithmetic.
    start:     seconds that a kernel takes to start, beyond what a dense product takes.
    row:       seconds for a row that a program copies where a panel of x stays; 0 where none does.
    images:    verb -> images of a convolution that a kernel takes at once; others are rounded up to it.
    """

    name: str
    dense: Mapping[str, float]
    live: Mapping[str, Mapping[int, float]]
    window: float
    bandwidth: float
    overlaps: bool
    start: float
    row: float = 0.0
    images: Mapping[str, int] = {}


CPU_LIVE = {4: 62e9, 16: 75e9, 32: 85e9}
# As measured between 30 and 10%, 8192 x 4096 x 4096, forward.
H200_LIVE = {16: 110e12, 32: 220e12, 64: 450e12, 128: 560e12}
MACHINES: dict[str, Machine] = {
    "cpu": Machine(
        "one core of a server's CPU with AVX-512",
        {"float32": 85e9, "bfloat16": 70e9},
        {"float32": CPU_LIVE, "bfloat16": CPU_LIVE},
        window=1.0,
        bandwidth=4.6e9,
        overlaps=False,
        start=2e-5,
    ),
    # The second cache bounds blocks below 128: a block's rows of x are read again for every block column. Where
    # a panel of x stays instead, the rate of the copies is that of other kernels, and no product was measured.
    "cuda": Machine(
        "NVIDIA H200",
        {"float32": 395e12, "bfloat16": 790e12, "float16": 790e12},
        {
            "bfloat16": H200_LIVE,
            "float16": H200_LIVE,
            "float32": {side: rate / 2 for side, rate in H200_LIVE.items()},
        },
        window=1.0,
        bandwidth=4.3e12,
        overlaps=True,
        start=5e-6,
        row=1e-9,
        images={"forward": 16, "dx": 16, "dw": 64},
    ),
    # A run of blocks fills 128 rows of the matrix unit and as many columns as a block has.
    "tpu": Machine(
        "TPU v5e",
        {"float32": 50e12, "bfloat16": 197e12},
        {
            "float32": {16: 6e12, 32: 12e12, 64: 25e12, 128: 50e12},
            "bfloat16": {16: 25e12, 32: 49e12, 64: 98e12, 128: 197e12},
        },
        window=1.0,
        bandwidth=0.82e12,
        overlaps=True,
        start=5e-6,
    ),
}


def name_of(platform: str) -> str:
    """The modelled device in words."""
    return MACHINES[platform].name if platform in MACHINES else f"no device ({platform})"


def predicted(platform: str, call: Call) -> float:
    """Seconds of the dense product over seconds of the sparse one; 0 for a platform that is not modelled.

    A layout counts with its capacity: fewer live blocks only make the kernel faster.
    """
    machine = MACHINES.get(platform)
    if machine is None or call.dtype not in machine.live or call.dtype not in machine.dense:
        return 0.0
    return dense_seconds(machine, call) / sparse_seconds(machine, call)


def fallback(platform: str, call: Call) -> float:
    """Seconds of a dense product over seconds of the fall-back, which moves the weight once more.

    It unpacks the weight before the product, or packs the gradient behind it.
    """
    machine = MACHINES.get(platform)
    if machine is None or call.dtype not in machine.dense:
        return 1.0
    extra = _bytes(call) * (1 + call.density) * call.shape[0] * call.shape[1] / machine.bandwidth
    return dense_seconds(machine, call) / (dense_seconds(machine, call) + extra)


def dense_seconds(machine: Machine, call: Call) -> float:
    """What XLA's dense product or convolution takes."""
    stretch = 1.0 if call.geometry is None else machine.window
    return stretch * _both(machine, flops(call) / machine.dense[call.dtype], moved(call, 1.0))


def sparse_seconds(machine: Machine, call: Call) -> float:
    """What the kernel takes."""
    if copied := _copied(machine, call):
        return machine.start + _both(machine, copied, moved(call, call.density))
    # The side that lies along the vectors or the columns of a matrix unit.
    side = call.block[0 if call.verb == "dx" else 1]
    empty = _rounded(machine, call)
    arithmetic = empty * sparse_flops(call) / _rate(machine.live[call.dtype], side)
    return machine.start + _both(machine, arithmetic, moved(call, call.density))


def flops(call: Call) -> float:
    """FLOPs of the dense product: two per multiply-add."""
    return 2.0 * rows_of(call) * call.shape[0] * call.shape[1]


def sparse_flops(call: Call) -> float:
    """FLOPs on live blocks."""
    return flops(call) * call.density


def rows_of(call: Call) -> int:
    """Rows of the product: output pixels of all images for a convolution."""
    count = call.count if isinstance(call.count, int) else NOMINAL_ROWS
    if call.geometry is None:
        return count
    return count * call.geometry.out[0] * call.geometry.out[1]


def moved(call: Call, density: float) -> float:
    """Bytes that have to move: x or dy, the result, and the weights that live."""
    (k, n), rows = call.shape, rows_of(call)
    channels = k if call.geometry is None else call.geometry.image[2]
    return _bytes(call) * (rows * (channels + n) + density * k * n)


def _copied(machine: Machine, call: Call) -> float:
    """Seconds of the copies of a product that keeps a panel of x; 0 for any other."""
    (rows, cols), shape = call.block, call.shape[::-1] if call.verb == "dx" else call.shape
    if not machine.row or call.verb == "dw" or call.geometry is not None:
        return 0.0
    found = Panels(rows_of(call), shape, rows, call.capacity)
    if rows != cols or rows not in SIDES or not found.worthwhile(PROGRAMS):
        return 0.0
    return machine.row * found.rows(PROGRAMS, found.shares(PROGRAMS))


def _rate(rates: Mapping[int, float], side: int) -> float:
    reached = [at for at in rates if at <= side]
    return rates[max(reached)] if reached else rates[min(rates)] * side / min(rates)


def _rounded(machine: Machine, call: Call) -> float:
    """How many times the images the kernel multiplies, empty ones included."""
    count, at_once = call.count, machine.images.get(call.verb, 1)
    if call.geometry is None or not isinstance(count, int):
        return 1.0
    return -(-count // at_once) * at_once / count


def _bytes(call: Call) -> int:
    return 4 if call.dtype == "float32" else 2


def _both(machine: Machine, arithmetic: float, bytes_: float) -> float:
    traffic = bytes_ / machine.bandwidth
    return max(arithmetic, traffic) if machine.overlaps else arithmetic + traffic
