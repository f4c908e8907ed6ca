"""What every test relies on: eight CPU devices, one hypothesis profile, the real data's folder."""

import os
import pathlib

# The tests' child processes inherit this; a GPU machine sets JAX_PLATFORMS=cuda itself.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest

jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
# Sharding needs several devices in one process, set before the first array makes a backend.
jax.config.update("jax_num_cpu_devices", 8)

IN_CI = bool(os.environ.get("CI"))

# No deadline: the first example of each shape compiles. In CI the examples are the same each time.
hypothesis.settings.register_profile(
    "sparsity", deadline=None, derandomize=IN_CI, max_examples=25, print_blob=True
)
hypothesis.settings.load_profile("sparsity")


@pytest.fixture(scope="session")
def data_root() -> pathlib.Path:
    """The folder with the real data sets, each in its publisher's format.

    It is $SPARSITY_DATA; without it the test is skipped, and under CI it fails.
    """
    given = os.environ.get("SPARSITY_DATA", "")
    if given and pathlib.Path(given).is_dir():
        return pathlib.Path(given)
    problem = f"SPARSITY_DATA is {given!r}, not a folder" if given else "SPARSITY_DATA is not set"
    stop = pytest.fail if IN_CI else pytest.skip
    stop(f"{problem}: no real data to read")


def pytest_terminal_summary(terminalreporter) -> None:
    """Says at the end what tests have recorded as "said at the end": what they counted, and not only
    that it was enough."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "said at the end":
                terminalreporter.write_line(text)
