"""The two programs as a user meets them: words, not tracebacks, and nothing lost to a kill."""

import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def program(name, *flags):
    return [sys.executable, "-m", f"experiments.{name}", *flags]


def run(name, *flags):
    done = subprocess.run(
        program(name, *flags), check=False, cwd=ROOT, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def generated(folder, rows):
    path = folder / "train.txt"
    assert run("generate_criteo", f"--out={path}", f"--rows={rows}")[0] == 0
    return path


def test_a_text_is_made_prepared_and_not_prepared_twice(tmp_path):
    source = generated(tmp_path, 2000)
    flags = f"--source={source}", f"--out={tmp_path / 'out'}", "--workers=1", "--floor=5"
    code, said, _ = run("prepare_criteo", *flags)
    assert code == 0 and "2,000 rows (the published set has 45,840,617)" in said
    assert hashlib.sha256(source.read_bytes()).hexdigest() in said and "MiB" in said
    stamp = (tmp_path / "out" / "rows.npy").stat().st_mtime_ns
    assert "rows/s" in said
    code, said, _ = run("prepare_criteo", *flags)
    assert code == 0 and "on top of what was done before" in said and "rows/s" not in said
    assert (tmp_path / "out" / "rows.npy").stat().st_mtime_ns == stamp


def test_what_is_wrong_is_said_in_words(tmp_path):
    source = generated(tmp_path, 500)
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join([*lines[:100], "no click\n", *lines[100:]]))
    flags = f"--source={source}", f"--out={tmp_path / 'out'}", "--workers=1"
    code, _, said = run("prepare_criteo", *flags, "--malformed=0")
    assert code == 1 and "line 101: 1 columns instead of 40" in said and "Traceback" not in said
    code, said, _ = run("prepare_criteo", *flags, "--malformed=1")
    assert code == 0 and "1 malformed lines left out: line 101: 1 columns instead of 40" in said


def digest(folder):
    names = "rows.npy", "prepared.json"
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path):
    source = generated(tmp_path, 700_000)
    flags = f"--source={source}", "--workers=2"
    whole = tmp_path / "whole"
    started = time.monotonic()
    assert run("prepare_criteo", *flags, f"--out={whole}")[0] == 0
    seconds, cut, kills = time.monotonic() - started, tmp_path / "cut", 0
    for i in range(12):
        process = subprocess.Popen(
            program("prepare_criteo", *flags, f"--out={cut}"),
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(seconds * (0.3 + i % 6 / 10))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert run("prepare_criteo", *flags, f"--out={cut}")[0] == 0
    assert kills >= 1 and digest(cut) == digest(whole)
