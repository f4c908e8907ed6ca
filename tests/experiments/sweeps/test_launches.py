"""A run that is launched elsewhere is the run that the sweep asked for: by a printed command, by SLURM."""

import json
import os
import shlex
import subprocess
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from experiments.sweeps import call, commands, live, outcomes, slurm
from experiments.sweeps.jobs import Job, jobs
from experiments.sweeps.points import points

DIGITS = "configs/digits.py"
POINTS = {
    "strings": {"density": "0.05", "plan.every": "1%", "argument": "sequential_attention"},
    "a method": {"argument": "grid,plan=acdc", "method.mask": "softmax", "method.score": "l1"},
    "numbers": {"optimizer.learning_rate": 1e-3, "blocks.block": [4, 16], "steps": 20},
    "truth": {"data.augment": True, "plan.dead": "kept", "argument": "magnitude,plan=acdc"},
}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


@pytest.fixture
def family():
    return jobs(DIGITS, points({"named": POINTS}))


def test_a_printed_command_launches_the_same_config(family, tmp_path, monkeypatch):
    for job, line in zip(family, commands.lines(family, tmp_path), strict=True):
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "experiments.train"]
        monkeypatch.setattr(sys, "argv", words[2:])  # where the overrides are looked for
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", flag_values=values)
        flags.DEFINE_string("workdir", None, "", flag_values=values)
        values(words[2:])
        assert json.loads(json.dumps(values.config.to_dict())) == job.config
        assert values.workdir == str(tmp_path / job.name)


def test_what_no_command_line_can_set_is_said():
    with pytest.raises(ValueError, match="blocks.rules is .*which no command line can set"):
        commands.line(Job({"blocks.rules": [{"pattern": "*"}]}, {}, DIGITS), call.Path("runs"))


def test_only_what_is_missing_is_printed(family, tmp_path, capsys):
    done, diverged, *rest = family
    for job, name, value in (
        (done, "summary.json", {"steps": 1}),
        (diverged, "status.json", {"status": "diverged", "cause": "at step 3"}),
    ):
        (tmp_path / job.name).mkdir()
        (tmp_path / job.name / name).write_text(json.dumps(value))
    found = call._print(family, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines == commands.lines(rest, tmp_path)
    assert found[diverged.name].cause == "Diverged: at step 3"
    assert found[done.name].summary == {"steps": 1}


@pytest.mark.slow
def test_a_task_of_an_array_runs_its_own_place_in_the_list(family, tmp_path):
    short = [job for job in family if job.config["steps"] == 20]
    (path,) = slurm.prepared([family[0], *short], tmp_path, "--gres=gpu:1 --time=1:00:00")
    text = path.read_text()
    assert (
        "#SBATCH --array=0-1\n" in text and "#SBATCH --gres=gpu:1\n#SBATCH --time=1:00:00" in text
    )
    bare = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    ran = subprocess.run(
        ["bash", str(path)],
        env={**bare, "SLURM_ARRAY_TASK_ID": "1"},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    ended = outcomes.read([family[0], *short], tmp_path)
    assert [bool(o.summary) for o in ended.values()] == [False, True]
    with pytest.raises(ValueError, match="has 2 runs, and none at 2"):
        slurm.job_at(tmp_path / "slurm" / "jobs-0.json", 2)


def test_long_families_are_several_arrays(tmp_path):
    many = [Job({}, {"seed": seed}, DIGITS) for seed in range(slurm.LONGEST + 2)]
    paths = slurm.prepared(many, tmp_path)
    assert [path.name for path in paths] == ["jobs-0.sh", "jobs-1.sh"]
    assert "--array=0-1\n" in paths[1].read_text()
    assert slurm.job_at(tmp_path / "slurm" / "jobs-1.json", 1)[1] == {"seed": slurm.LONGEST + 1}


def test_arrays_are_handed_in_once(tmp_path, monkeypatch, capsys):
    """Against programs that answer as SLURM's do: what is in the queue is not handed in again."""
    family = [Job({}, {"seed": 0}, DIGITS)]
    with pytest.raises(ValueError, match="there is no squeue here; --print shows"):
        call._submit(family, tmp_path, "")
    for name, said in (("sbatch", 'echo "Submitted $1" | tee -a queue'), ("squeue", "cat queue")):
        (tmp_path / name).write_text(f"#!/bin/bash\ncd {tmp_path}\n{said}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "queue").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    call._submit(family, tmp_path, "")
    call._submit(family, tmp_path, "")
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"Submitted {tmp_path}/slurm/jobs-0.sh"
    assert second.startswith("1 tasks of ") and second.endswith("nothing is handed in")


def test_the_live_table_shows_the_last_whole_record(tmp_path):
    job = Job({"density": "0.1"}, {"steps": 90})
    assert live.row("a", job, tmp_path) == ("a", "density 0.1", "0/90", "", "")
    good = {"event": "train", "step": 30, "phase": "sparse", "loss": 0.25}
    text = json.dumps(good) + "\n" + json.dumps({"event": "tick", "step": 31}) + '\n{"event": "tr'
    (tmp_path / "metrics.jsonl").write_text(text)
    assert live.row("a", job, tmp_path)[2:] == ("30/90", "sparse", "0.25")
    with live.Live(tmp_path, 3) as table:
        table.begun(job)
        assert "30/90" not in "".join(table.table()) and job.name in table.table()[1]
        table.ended(outcomes.Outcome(job, tmp_path, {}, "OSError: full"))
        assert table.line().startswith("1 of 3 runs ended, 1 of them failed")
