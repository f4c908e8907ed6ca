"""A run that is killed, wherever it is and however often, ends with the bits of one that never was."""

import pytest

from tests.experiments.faults.ends import same_end
from tests.experiments.faults.killing import IMPORTS, WINDOWS, Hunt, cold
from tests.experiments.faults.processes import flags, whole

# The last save is one step before the end.
TIMES = ("steps=181", "save_every=12", "evaluate_every=13", "log_every=7")
CNN = ("blocks.at_least=20", "settle=1", "model.widths=(8,)", "model.hidden=(32,)")
CASES = {
    # Gates and momentum, cycles of phases.
    "attention": flags("sequential_attention,plan=acdc", *TIMES),
    # Scores that come of data, batch statistics that are recomputed, two moments.
    "grid": flags("grid,plan=gradual,model=cnn,optimizer=adamw", *TIMES, *CNN),
}
FEW = flags("magnitude,plan=gradual", "steps=41", *TIMES[1:])
KILLS = 3  # in each window of each case
SAID = "said at the end"  # conftest.py says it


def table(kills):
    """The kills of each window in words."""
    counts = ", ".join(f"{kills[window]} {window}" for window in (*WINDOWS, IMPORTS))
    return f"{kills.total() - kills[IMPORTS]} kills: {counts}"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_killed_in_every_window_ends_with_the_same_bits(case, tmp_path, record_property):
    given, warm = CASES[case], tmp_path / "warm"
    hunt, reference = Hunt(given, warm, seed=0), whole(given, tmp_path / "reference", warm)
    aims, runs = [window for window in WINDOWS for _ in range(KILLS)], 0
    while aims:
        run, runs = tmp_path / f"killed{runs}", runs + 1
        left = hunt.kill(run, aims)
        same_end(whole(given, run, cold(run)), reference)
        assert len(left) < len(aims), f"no kill in the window {left[0]!r}"
        aims = ["save", *left] if left else []  # another run, that has something to go on from
    record_property(SAID, f"{case}, {runs} runs, {table(hunt.kills)}")
    assert all(hunt.kills[window] >= KILLS for window in WINDOWS)


def test_a_run_killed_a_few_times_ends_with_the_same_bits(tmp_path, record_property):
    run, cache = tmp_path / "killed", tmp_path / "cache"
    hunt = Hunt(FEW, cache, seed=0)
    assert hunt.kill(run, ["compiling", "tick", "save"]) == []
    same_end(whole(FEW, run, cache), whole(FEW, tmp_path / "reference", cache))
    record_property(SAID, f"few, {table(hunt.kills)}")
