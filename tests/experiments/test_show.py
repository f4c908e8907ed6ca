"""What is shown of a run is what its directory holds, whatever state it is in and whoever wrote it."""

import json
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import show
from experiments.assembly.dry_run import described
from experiments.reporting import account, contrast, runs, single, terminal, transcript
from experiments.running.launch import Session, launch
from experiments.running.preemption import Preempted, Stop
from experiments.running.workdir import Workdir, claimed, in_use
from sparsity.train.log import Lines
from sparsity.train.loop import Diverged

ROOT = pathlib.Path(__file__).parents[2]
ATTENTION = "sequential_attention,plan=gradual"
WATCHED = {"log_every": 5, "evaluate_every": 10}
quiet = Session(say=lambda text: None)


@pytest.fixture(scope="module")
def whole(config_of, tmp_path_factory):
    """The directory of a finished run."""
    folder = tmp_path_factory.mktemp("show") / "whole"
    launch(config_of(ATTENTION, **WATCHED), folder, quiet)
    return folder


@pytest.fixture(scope="module")
def stopped(config_of, tmp_path_factory):
    """The directory of a run that was asked to end at step 20, in its sparsify phase."""
    folder, stop = tmp_path_factory.mktemp("show") / "stopped", Stop()
    write = Lines.write

    def until(lines, record):
        if record["step"] >= 20:
            stop.ask(15)
        write(lines, record)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Preempted):
        patch.setattr(Lines, "write", until)
        launch(config_of(ATTENTION, **WATCHED), folder, quiet._replace(stop=stop))
    return folder


@pytest.fixture
def copied(whole, tmp_path):
    """The finished run in a directory that a test may damage."""
    return shutil.copytree(whole, tmp_path / "copied")


def text_of(folder):
    return transcript.of_run(account.trace(folder))


def shown(folder):
    """Text and page of a run, both made."""
    trace = account.trace(folder)
    page = single.of_run(trace)
    assert page.endswith("</html>\n")
    return transcript.of_run(trace), page


def test_a_finished_run_is_shown_with_its_scores_layers_and_plan(whole, config_of):
    text, page = shown(whole)
    summary = json.loads((whole / "summary.json").read_text())
    for said in (
        "state      done",
        f"{100 * summary['accuracy']:.2f}% on the test set",
        f"{100 * summary['achieved_sparsity']:.2f}% of the layers that are cut",
        f"{summary['parameters_live']:,} of {summary['parameters']:,}",
        f"{summary['macs_live']:,} of {summary['macs']:,}",
        "jax 0.",
    ):
        assert said in text and said.split("  ")[-1] in page
    dry = described(config_of(ATTENTION, **WATCHED))
    chart = [line for line in dry.splitlines() if "│" in line or "└" in line]
    assert all(line in text for line in chart)
    assert re.search(r"params/dense1/kernel +64x256 .* 8x32 +0.1 +0.09766 +25\n", text)
    assert "missing\n" not in text and "What is missing" not in page


def test_the_masks_in_the_text_are_those_of_the_model(whole):
    drawn = text_of(whole).split("masks of the final model\n")[1].split("\n\n")[0]
    for name, mask in runs.masks(account.trace(whole)).items():
        lines = drawn.split(f"{name}: ")[1].splitlines()[1 : 1 + len(mask) // 2]
        codes = [[terminal.HALVES.index(sign) for sign in line.strip()[1:-1]] for line in lines]
        halves = np.array(codes)
        assert (np.stack([halves % 2, halves // 2], 1).reshape(mask.shape) == mask).all()


def test_a_run_that_was_stopped_is_shown_up_to_where_it_came_with_its_saved_masks(
    stopped, whole, config_of, tmp_path
):
    text, page = shown(stopped)
    assert "preempted: SIGTERM" in text and "preempted: SIGTERM" in page
    assert "step 20 of 40, in a sparsify phase" in text and "▲ step 20" in text
    assert "masks at step 20, the last checkpoint" in text
    assert "summary.json is missing" not in text
    masks, _, notes = account.masks(account.trace(stopped))
    ticks = [r for r in account.trace(stopped).records if r["event"] == "tick" and r["groups"]]
    assert notes == [] and masks
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        name: own["alive"] for name, own in ticks[-1]["groups"].items()
    }


def test_a_damaged_checkpoint_is_named_and_costs_the_masks_alone(stopped, tmp_path):
    folder = shutil.copytree(stopped, tmp_path / "run")
    (folder / "checkpoints" / "20" / "tree.json").write_text("[")
    text, page = shown(folder)
    assert "the checkpoint of step 20: " in text and "tree.json" in text
    assert "Which blocks are left" in page and "saved no masks yet" in page


def test_what_is_no_longer_running_is_not_called_so(stopped, tmp_path):
    folder = shutil.copytree(stopped, tmp_path / "run")
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps({**status, "status": "running"}))
    assert "state      killed: its status says running" in text_of(folder)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder / "lock")], stdin=-1, stdout=-1, text=True
    )
    assert holder.stdout.readline() == "held\n"
    assert in_use(Workdir(folder)) and "state      running" in text_of(folder)
    holder.communicate("")
    assert not in_use(Workdir(folder))
    with claimed(Workdir(folder)):
        assert in_use(Workdir(folder))


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_diverged_run_is_shown_with_its_cause_and_what_it_lacks(config_of, tmp_path):
    config = config_of("magnitude,plan=static", optimizer__learning_rate=1e30, log_every=1)
    with pytest.raises(Diverged):
        launch(config, tmp_path, quiet)
    text, page = shown(tmp_path)
    assert "diverged: the training loss is nan at step" in text and "diverged: the training" in page
    assert "nothing was evaluated yet" in text and "masks" not in text.split("\n\n")[0]


FILES = ("config.json", "resolved.json", "status.json", "summary.json", "metrics.jsonl")
DAMAGE = ["", "{", "[]", "[" * 100_000, "null", '{"a": NaN}', "\0\0", '"', "1" * 5000]


@pytest.mark.parametrize("name", FILES)
def test_each_file_may_be_damaged_and_is_named(name, copied):
    path = copied / name
    for text in DAMAGE:
        path.write_text(text)
        said = transcript.of_run(account.trace(copied))
        assert name in said.split("missing\n")[1] or (name, text) == ("metrics.jsonl", "")
    path.unlink()
    assert f"{name} is missing" in shown(copied)[0]
    path.mkdir()
    assert f"{name} is no file" in shown(copied)[0]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
huge = st.sampled_from([10**400, -1, 2**60, 1e308, "1e-99999999", "1/0", "<b>", [[]], {"name": 3}])


def changed(tree, data):
    """The tree with one of its values replaced."""
    if isinstance(tree, dict) and tree and data.draw(st.integers(0, 9)):
        key = data.draw(st.sampled_from(sorted(tree)))
        return {**tree, key: changed(tree[key], data)}
    return data.draw(values | huge)


@given(st.data())
def test_any_value_in_a_file_may_be_another(whole, data):
    name = data.draw(st.sampled_from(FILES))
    lines = (whole / name).read_text()
    if name == "metrics.jsonl":
        records = [json.loads(line) for line in lines.splitlines()]
        at = data.draw(st.integers(0, len(records) - 1))
        records[at] = changed(records[at], data)
        text = "\n".join(map(json.dumps, records))
    else:
        text = json.dumps(changed(json.loads(lines), data))
    folder = whole.parent / "changed"
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    (folder / name).write_text(text)
    trace = account.trace(folder)
    transcript.of_run(trace)
    contrast.transcript([trace, account.trace(whole)])


def test_a_page_of_a_directory_with_anything_missing_is_still_a_page(copied, whole):
    for name in FILES:
        (copied / name).unlink()
        shown(copied)
    pair = [account.trace(folder) for folder in (copied, whole)]
    assert contrast.document(pair).endswith("</html>\n")
    for file in copied.glob("model.*"):
        file.unlink()
    text, page = shown(copied)
    assert "config.json is missing" in text and "config.json is missing" in page
    pair = [account.trace(copied), account.trace(copied)]
    assert contrast.document(pair).endswith("</html>\n")


def test_nothing_in_a_directory_is_executed_or_unpickled(stopped, tmp_path):
    trap, sprung = tmp_path / "trap", tmp_path / "sprung"
    shutil.copytree(stopped, trap)

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(sprung),))

    code = f"import os; os.mkdir({str(sprung)!r})"
    files = [path for path in trap.rglob("*") if path.is_file()]
    contents = {path: path.read_bytes() for path in files}
    for path in files:
        path.write_bytes(pickle.dumps(Trap()))
        text_of(trap)
        path.write_bytes(contents[path])
    for content in (pickle.dumps(Trap()), code.encode()):
        for path in files:
            path.write_bytes(content)
        shown(trap)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap()))
    assert sprung.exists()


def test_what_steers_a_terminal_or_a_browser_stays_text(copied):
    status = json.loads((copied / "status.json").read_text())
    (copied / "summary.json").unlink()
    wicked = "\x1b]0;owned\x07<script>alert(1)</script>\u202e"
    (copied / "status.json").write_text(json.dumps({**status, "status": "failed", "cause": wicked}))
    text, page = shown(copied)
    plain = terminal.plain(text)
    assert "failed: " in plain and "<script" not in page
    assert all(sign.isprintable() or sign == "\n" for sign in plain)


@pytest.fixture(scope="module")
def several(whole, stopped, config_of, tmp_path_factory):
    """Directories: the whole run, one of another seed, one of another density, a stopped one."""
    root = tmp_path_factory.mktemp("several")
    for name, changes in (("seed", {"seed": 1}), ("density", {"density": "0.3"})):
        launch(config_of(ATTENTION, **WATCHED, **changes), root / name, quiet)
    shutil.copytree(whole, root / "whole")
    shutil.copytree(stopped, root / "stopped")
    return [root / name for name in ("whole", "seed", "density", "stopped")]


def test_runs_are_compared_by_what_differs_and_what_came_out(several):
    traces = [account.trace(folder) for folder in several]
    table = contrast.differences(traces)
    assert table == [
        ["run", "density", "seed"],
        ["whole", "0.1", "0"],
        ["seed", "0.1", "1"],
        ["density", "0.3", "0"],
        ["stopped", "0.1", "0"],
    ]
    for row, folder in zip(contrast.outcomes(traces)[1:4], several, strict=False):
        found = json.loads((folder / "summary.json").read_text())
        assert row[1:] == [
            "done",
            f"{100 * found['asked_sparsity']:.4g}%",
            f"{100 * found['achieved_sparsity']:.2f}%",
            f"{100 * found['accuracy']:.2f}",
            f"{found['parameters_live']:,}",
            f"{found['macs_live']:,}",
            f"{found['seconds']:,.1f}",
        ]
    assert contrast.outcomes(traces)[4][1].startswith("preempted at 20 of 40")
    text, page = contrast.transcript(traces), contrast.document(traces)
    assert "stopped: preempted: SIGTERM" in text and "stopped: preempted: SIGTERM" in page
    assert "3 of 4 runs are finished" in page
    assert re.search(r"sequential_attention, gradual +90% .* ± .* +2 ", text)


def test_runs_that_would_have_one_name_are_told_apart(several):
    traces = [account.trace(folder) for folder in several]
    labels = [trace.label for trace in contrast.labelled(traces)]
    plain = "sequential_attention, gradual"
    assert labels == [plain, plain, plain, f"{plain}, stopped"]


def test_a_field_that_differs_within_a_method_is_part_of_the_name(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    config["optimizer"]["learning_rate"] = 0.5
    (folder / "config.json").write_text(json.dumps(config))
    labels = [t.label for t in contrast.labelled([account.trace(f) for f in (whole, folder)])]
    assert [label.split(", ")[-1] for label in labels] == ["learning_rate 0.1", "learning_rate 0.5"]


def test_a_path_that_is_no_run_says_which_are_nearby(several, tmp_path):
    root, there = several[0].parent, re.escape(str(several[2]))
    for path, words in (
        (root, f"is no run's directory, but these in it are: {there}, "),
        (root / "densty", f"did you mean '{there}'"),
        (root / "densty" / "deep", "There are: .*seed"),
        (tmp_path, "is no run's directory: a launch has left no file in it"),
        (tmp_path / "none", f"there is no {tmp_path}/none, and no run in {tmp_path}"),
    ):
        with pytest.raises(ValueError, match=words):
            show.traces([str(several[0]), str(path)])
    with pytest.raises(ValueError, match="name at least one run's directory"):
        show.traces([])
    assert len(show.traces([str(several[0]), f"{several[0]}/"])) == 1


def test_the_report_lies_in_the_run_or_beside_those_that_are_compared(several):
    assert show.default(several[:1]) == several[0] / "report.html"
    assert show.default(several).resolve() == several[0].parent / "comparison.html"


def test_the_command_prints_writes_the_report_and_ends_in_words(several, tmp_path):
    line = [sys.executable, "-m", "experiments.show"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": ROOT}
    page = tmp_path / "page.html"
    ended = subprocess.run([*line, *several[:2], f"--html={page}"], check=False, **pipes)
    assert ended.returncode == 0 and f"{page}: the report" in ended.stdout, ended.stdout
    assert "what differs\n" in ended.stdout and "2 runs compared" in page.read_text()
    ended = subprocess.run([*line, several[0], "--html=/dev/null/x.html"], check=False, **pipes)
    assert ended.returncode == 1 and "--html names a file that can be written" in ended.stdout
    ended = subprocess.run([*line, tmp_path / "nothing"], check=False, **pipes)
    assert ended.returncode == 1 and "there is no " in ended.stdout
    assert "Traceback" not in ended.stdout
