"""A process knows whether it has others to join, and what is wrong with how it was told."""

import socket

import pytest

from experiments.processes.clusters import Found, detected
from experiments.processes.joining import Joining, checked, join
from experiments.processes.line import Line

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[01-02]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}
JOB = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}
TPU = {"TPU_ML_PLATFORM": "JAX", "TPU_WORKER_HOSTNAMES": "a,b,c,d"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        (SLURM, Found("slurm", 2)),
        ({**SLURM, "SLURM_NTASKS": "1"}, None),
        (BATCH, None),
        (JOB, Found("k8s", None)),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
        (TPU, Found("tpu", 4)),
        ({**TPU, "TPU_WORKER_HOSTNAMES": "a"}, None),
        ({"TPU_ML_PLATFORM": "JAX"}, Found("tpu", None)),
        ({"OMPI_MCA_orte_hnp_uri": "0.0;tcp://h:1", "OMPI_COMM_WORLD_SIZE": "3"}, Found("ompi", 3)),
    ],
)
def test_the_environment_of_a_cluster_is_told_from_that_of_a_process_alone(environment, found):
    assert detected(environment) == found


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"coordinator": "h:1", "processes": 2}, "missing: --process$"),
        ({"process": 0}, "missing: --coordinator, --processes"),
        ({"coordinator": "h", "processes": 2, "process": 0}, "HOST:PORT"),
        ({"coordinator": "h:0", "processes": 2, "process": 0}, "HOST:PORT"),
        ({"coordinator": "h:1", "processes": 2, "process": 2}, "count from 0 to 1"),
        ({"coordinator": "h:1", "processes": 2, "process": -1}, "count from 0 to 1"),
        ({"processes": 0}, "at least 1, not 0"),
        ({"processes": 1, "process": 1}, "missing: --coordinator"),
        ({"wait": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(given, words):
    with pytest.raises(ValueError, match=words):
        checked(Joining(**given))


def test_a_damaged_environment_is_named():
    with pytest.raises(ValueError, match="SLURM_NTASKS is 'two'"):
        detected({**SLURM, "SLURM_NTASKS": "two"})


def test_who_is_alone_or_says_so_joins_nobody():
    for joining, environment in ((Joining(), {}), (Joining(processes=1), SLURM)):
        found = join(joining, Line(), environment)
        assert (found.index, found.count) == (0, 1)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        joining = Joining(f"127.0.0.1:{port}", processes=2, process=0)
        with pytest.raises(ValueError, match=f"cannot listen at port {port}"):
            join(joining, Line(), {})
