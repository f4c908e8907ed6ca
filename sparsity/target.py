"""What is to become sparse and how far, and the contexts that follow from it as a plan goes on."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import jax
import numpy as np

from sparsity.contract import Context
from sparsity.plan.phases import Phase, Plan
from sparsity.units.blocks import Layer, densities, partition_of
from sparsity.units.masks import counts
from sparsity.units.partition import Partition


class Target(NamedTuple):
    """The groups, and the density asked of each at the plan's end."""

    partition: Partition
    densities: Mapping[str, Fraction]

    @classmethod
    def of(cls, layers: Sequence[Layer]) -> "Target":
        """The target of a resolved table (units/blocks.py)."""
        return cls(partition_of(layers), densities(layers))


def context_of(
    target: Target, phase: Phase, share: Fraction = Fraction(1), regrow: bool = True
) -> Context:
    """The context of a phase at a share of the target sparsity, its arrays on the device.

    Raises ValueError, naming the layer, where a count comes to nothing.
    """
    keep = counts(target.partition, target.densities, share)
    full = counts(target.partition, target.densities, Fraction(1))
    host = Context(
        phase=phase.kind,
        progress=np.float32(0.0),
        keep={name: np.int32(count) for name, count in keep.items()},
        target={name: np.int32(count) for name, count in full.items()},
        regrow=np.bool_(regrow),
    )
    return jax.device_put(host)


def final_context(target: Target, plan: Plan) -> Context:
    """The context of the plan's end."""
    return context_of(target, plan[-1], plan[-1].shares[1])
