"""Which cluster the environment tells of, and how many processes: what JAX then joins by itself.

It looks at what JAX looks at, but asks nobody: a process that is alone must not wait for an answer.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Found(NamedTuple):
    """A cluster that the environment tells of: its name to JAX, and how many processes, if it says."""

    name: str
    processes: int | None


def detected(environment: Mapping[str, str]) -> Found | None:
    """The cluster that the environment tells of; None where this process is alone."""
    for name, look in CLUSTERS.items():
        if (found := look(environment)) is not None:
            return None if found == 1 else Found(name, found or None)
    return None


def _slurm(environment: Mapping[str, str]) -> int | None:
    """Tasks of the step that `srun` started; a batch script itself is none."""
    needed = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    return _number(environment, "SLURM_NTASKS") if all(n in environment for n in needed) else None


def _open_mpi(environment: Mapping[str, str]) -> int | None:
    there = "OMPI_MCA_orte_hnp_uri" in environment
    return _number(environment, "OMPI_COMM_WORLD_SIZE") if there else None


def _kubernetes(environment: Mapping[str, str]) -> int | None:
    """An indexed Job; only its pods can be told apart. How many they are, JAX asks the cluster."""
    there = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys()
    return 0 if there else None


def _tpu(environment: Mapping[str, str]) -> int | None:
    """A machine in which JAX has found TPUs; how many are in the pod, JAX asks its metadata."""
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if environment.get("TPU_ML_PLATFORM") != "JAX":
        return None
    return len(hosts.split(",")) if hosts else 0


# Each gives the number of processes, 0 where only JAX can find it out, and None of another cluster's.
CLUSTERS: dict[str, Callable[[Mapping[str, str]], int | None]] = {
    "ompi": _open_mpi,
    "slurm": _slurm,
    "k8s": _kubernetes,
    "tpu": _tpu,
}


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not text.isdecimal() or not int(text):
        raise ValueError(f"the environment's {name} is {text!r}, expected a number of processes")
    return int(text)
