"""The papers' plans by name; each returns phases whose lengths are shares of the run.

Two of them side by side are two papers compared. A one-shot baseline trains, prunes and fine-tunes within
the same number of steps as every other.
"""

from typing import Any

from sparsity.plan.phases import Plan, phase


def dense() -> Plan:
    """Trains the dense network."""
    return phase("dense", "100%")


def static(dead: str = "kept") -> Plan:
    """Sparse from the first step: pruning at initialisation, and the strongest plan for random masks."""
    return phase("finetune", "100%", dead=dead)


def one_shot(train: str = "85%", finetune: str = "15%", dead: str = "kept") -> Plan:
    """Train, prune once, fine-tune (the magnitude and PowerPropagation baselines of arXiv 2402.17902)."""
    return phase("dense", train) + phase("finetune", finetune, dead=dead)


def gradual(
    train: str = "20%",
    sparsify: str = "50%",
    finetune: str = "30%",
    ramp: Any = "cubic",
    every: str = "1%",
    dead: str = "kept",
) -> Plan:
    """Gradual pruning with the cubic ramp (Zhu and Gupta 2017, arXiv 1710.01878)."""
    return (
        phase("dense", train)
        + phase("sparsify", sparsify, ramp=ramp, every=every, dead=dead)
        + phase("finetune", finetune, dead=dead)
    )


def acdc(
    warmup: str = "10%",
    cycles: int = 7,
    sparse: str = "5%",
    dense: str = "5%",
    last_dense: str = "10%",
    finetune: str = "15%",
    dead: str = "zeroed",
) -> Plan:
    """AC/DC (Peste et al. 2021, arXiv 2106.12379): alternate compressed and decompressed phases.

    The momentum is reset on entering a dense phase only, as stale momentum of re-introduced weights
    would throw them off. The last dense phase is longer.
    """
    compressed = phase("sparse", sparse, dead=dead)
    decompressed = phase("dense", dense, reset="restarted")
    return (
        phase("dense", warmup)
        + (cycles - 1) * (compressed + decompressed)
        + compressed
        + phase("dense", last_dense, reset="restarted")
        + phase("finetune", finetune, dead=dead)
    )


def sequential_attention(
    warmup: str = "10%",
    cycles: int = 6,
    sparsify: str = "10/3%",
    sparse: str = "10/3%",
    dense: str = "10/3%",
    last_sparsify: str = "15%",
    finetune: str = "15%",
    c: float = 4.0,
    every: str = "1/3%",
    dead: str = "kept",
    regrow: bool = True,
) -> Plan:
    """SequentialAttention++ (arXiv 2402.17902, section 3 and appendix C.1).

    AC/DC's cycles with a sparsify phase before each sparse one; the last cycle and its extension become
    one sparsify phase. The optimiser is reset at each phase. The paper leaves open how a cycle is
    split (thirds here), how often the mask is recomputed in a sparsify phase (`every`) and whether it
    may regrow there.
    """
    ramp = {"name": "exponential", "c": c}
    common = {"reset": "restarted", "dead": dead}
    cycle = (
        phase("sparsify", sparsify, ramp=ramp, every=every, regrow=regrow, **common)
        + phase("sparse", sparse, **common)
        + phase("dense", dense, reset="restarted")
    )
    return (
        phase("dense", warmup)
        + cycles * cycle
        + phase("sparsify", last_sparsify, ramp=ramp, every=every, regrow=regrow, **common)
        + phase("finetune", finetune, **common)
    )


def phases(phases: Any = ()) -> Plan:
    """A plan spelt out: each entry a mapping with `kind`, `length` and the settings of Phase."""
    return sum((phase(**_plain(entry)) for entry in phases), ())


def _plain(entry: Any) -> dict[str, Any]:
    if isinstance(entry, str) or not hasattr(entry, "keys") or not {"kind", "length"} <= set(entry):
        raise ValueError(f"a phase is a mapping with 'kind' and 'length', not {entry!r}")
    return {key: entry[key] for key in entry}
