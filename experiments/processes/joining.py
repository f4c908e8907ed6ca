"""Joins this process to the others of its run, before anything touches a device.

By hand where the flags say so; else by what the cluster has set in the environment; else not at all.
"""

import os
import re
import socket
import sys
import threading
from collections.abc import Mapping
from typing import NamedTuple

import jax

# JAX has no public name for what it reads out of a cluster's environment.
from jax._src.clusters import ClusterEnv

from experiments.processes.clusters import Found, detected
from experiments.processes.line import Line
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


def join(joining: Joining, line: Line, environment: Mapping[str, str] = os.environ) -> Board:
    """The board of the processes that have joined; that of a single one where there are no others.

    All but process 0 speak to it through `line`.

    Raises ValueError for settings that are wrong, incomplete or contradict each other. Where the others
    do not come in time, it says so and ends the process.
    """
    checked(joining)
    found = None if _by_hand(joining) else detected(environment)
    if joining.processes == 1 or not (_by_hand(joining) or found):
        return board()
    if not found and joining.process == 0:
        _refuse_taken(str(joining.coordinator))
    # It would take SIGTERM for itself; `accord` agrees on a place, for SIGINT too.
    jax.config.update("jax_enable_preemption_service", False)
    timer = threading.Timer(joining.wait, _end, [joining, found])
    timer.daemon = True
    timer.start()
    try:
        _initialize(joining, found, line)
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


def _refuse_taken(coordinator: str) -> None:
    """ValueError where another program listens at the port: JAX ends with a segmentation fault there."""
    port = int(coordinator.rpartition(":")[2])
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise ValueError(
            f"--coordinator={coordinator}: process 0 cannot listen at port {port} ({error.strerror}); take "
            "another, in all processes"
        ) from None


def _by_hand(joining: Joining) -> bool:
    return joining.coordinator is not None and (joining.processes or 1) > 1


def _initialize(joining: Joining, found: Found | None, line: Line) -> None:
    try:
        jax.distributed.initialize(
            _coordinator(joining, found, line),
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


def _coordinator(joining: Joining, found: Found | None, line: Line) -> str | None:
    """What JAX is to call; None where it is to find out by itself."""
    address, process = joining.coordinator, joining.process
    if found:
        address = os.environ.get("JAX_COORDINATOR_ADDRESS")
        address, _, process, _ = ClusterEnv.auto_detect_unset_distributed_params(
            address, None, None, None, found.name, joining.wait
        )
    # Certificates are of process 0's name, not of this process's.
    certified = getattr(jax.config, "jax_mtls_cert_file", None)
    return line.to(address) if address and process and not certified else address


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
