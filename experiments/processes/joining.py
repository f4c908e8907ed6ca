"""Joins this process to the others of its run, before anything touches a device.

By hand where the flags say so; else by what the cluster has set in the environment; else not at all.
"""

import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax

from sparsity.train.board import Board, board

MARGIN = 30  # seconds after which JAX itself would end the process, without a word to the user


class Joining(NamedTuple):
    """How to join, as the flags say.

    coordinator: HOST:PORT of process 0, the same for all. processes: how many; 1 stays alone whatever
    the environment says. process: which of them this is.
    wait: seconds for all of them to come. lost: seconds of silence after which a process is lost.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    wait: int = 300
    lost: int = 60


class Found(NamedTuple):
    """A cluster that the environment tells of: its name to JAX, and how many processes, if it says."""

    name: str
    processes: int | None


def join(joining: Joining, environment: Mapping[str, str] = os.environ) -> Board:
    """The board of the processes that have joined; that of a single one where there are no others.

    Raises ValueError for settings that are wrong, incomplete or contradict each other. Where the others
    do not come in time, it says so and ends the process.
    """
    checked(joining)
    found = None if _by_hand(joining) else detected(environment)
    if joining.processes == 1 or not (_by_hand(joining) or found):
        return board()
    # It would take SIGTERM for itself; `accord` agrees on a place, for SIGINT too.
    jax.config.update("jax_enable_preemption_service", False)
    timer = threading.Timer(joining.wait, _end, [joining, found])
    timer.daemon = True
    timer.start()
    try:
        _initialize(joining, found)
    finally:
        timer.cancel()
    return board()


def checked(joining: Joining) -> None:
    """Raises ValueError for settings that are wrong, incomplete or contradict each other."""
    if min(joining.wait, joining.lost) < 1:
        raise ValueError("join_timeout and heartbeat_timeout are seconds, at least 1")
    if joining.processes is not None and joining.processes < 1:
        raise ValueError(f"--processes is at least 1, not {joining.processes}")
    if joining.processes == 1 and joining.process in (None, 0):
        return
    given = {"coordinator": joining.coordinator, "processes": joining.processes}
    given["process"] = joining.process
    lacking = [f"--{name}" for name, value in given.items() if value is None]
    if 0 < len(lacking) < 3:
        raise ValueError(
            f"--coordinator, --processes and --process go together, or the cluster's environment gives "
            f"them all; missing: {', '.join(lacking)}"
        )
    if not lacking:
        _check_place(joining)


def _check_place(joining: Joining) -> None:
    if not re.fullmatch(r".+:[1-9]\d{0,4}", str(joining.coordinator)):
        raise ValueError(f"--coordinator is HOST:PORT of process 0, not {joining.coordinator!r}")
    if not 0 <= (joining.process or 0) < (joining.processes or 1):
        raise ValueError(
            f"--process={joining.process} of --processes={joining.processes}: they count from 0 to "
            f"{(joining.processes or 1) - 1}"
        )


def _by_hand(joining: Joining) -> bool:
    return joining.coordinator is not None and (joining.processes or 1) > 1


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


def _initialize(joining: Joining, found: Found | None) -> None:
    try:
        jax.distributed.initialize(
            joining.coordinator,
            joining.processes,
            joining.process,
            initialization_timeout=joining.wait + MARGIN,
            heartbeat_timeout_seconds=joining.lost + MARGIN,
            shutdown_timeout_seconds=joining.lost,
            cluster_detection_method=None if found else "deactivate",
        )
    except (RuntimeError, ValueError) as error:
        if found and found.name == "tpu" and "coordinator_address" in str(error):
            return  # a machine of its own, with TPUs
        where = f"as {found.name} tells" if found else f"at {joining.coordinator}"
        raise ValueError(f"could not join the other processes {where}: {error}") from error


def _end(joining: Joining, found: Found | None) -> None:
    """Says who was waited for, and ends: JAX's own end is a stack trace of C++."""
    who = f"process {joining.process} of {joining.processes}, coordinator {joining.coordinator}"
    if found:
        who = f"a process of a cluster that {found.name} tells of"
    print(
        f"{who}: the others have not come within {joining.wait} s (--join_timeout). Are all of them "
        "started, with the same coordinator, and can they reach its port?",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)
