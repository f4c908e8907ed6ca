"""Command lines that cannot run end with a sentence and a status, and write nothing."""

import pathlib
import subprocess
import sys

import pytest

from experiments import command

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = "configs/digits.py"
HEAD = "from configs.base import base\n"

FILES = [
    ("raise ValueError('no moon')", "no moon"),
    ("raise RuntimeError('no moon')", r"config.py:1: RuntimeError: no moon"),
    ("def get_config(:", "config.py:1: invalid syntax"),
    (
        "import a_module_that_is_not_there",
        "config.py:1: ModuleNotFoundError: No module named 'a_mod",
    ),
    ("x = 1", "config.py needs a function get_config that returns a ConfigDict"),
    (
        "def get_config(): return {}",
        "config.py needs a function get_config that returns a ConfigDict",
    ),
    (f"{HEAD}def get_config():\n    return base(0)", "config.py:3: .*Error: "),
    (
        f"{HEAD}def get_config():\n    return base().stpes",
        "config.py:3: AttributeError: .*steps",
    ),
]


@pytest.mark.parametrize(("text", "words"), FILES)
def test_a_config_file_that_raises_is_named_with_the_line(text, words, tmp_path):
    path = tmp_path / "config.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        command._loaded(str(path))


NAMES = [
    ("configs/digit.py", "no config file .* did you mean 'configs/digits.py'.*cifar10.py"),
    ("nowhere/digits.py", "no config file nowhere/digits.py, and no other in nowhere"),
    (f"{DIGITS}:magnitud", "no method .* did you mean 'magnitude'"),
    (f"{DIGITS}:magnitude,plan=gradul", "no plan .* did you mean 'gradual'"),
    (f"{DIGITS}:magnitude,pln=gradual", "no part of a config's argument .* did you mean 'plan'"),
    (f"{DIGITS}:magnitude,model=resnt20", "no model .* did you mean 'resnet20'"),
    (f"{DIGITS}:dense,optimizer=adamn", "no optimizer .* did you mean 'adam"),
]


@pytest.mark.parametrize(("file", "words"), NAMES)
def test_a_config_that_does_not_exist_names_the_nearest(file, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match=words):
        command._loaded(file)


OVERRIDES = [
    ("--config.stpes=3", "no field of config is called 'stpes'; did you mean 'steps'"),
    ("--config.method.scroe=l1", "no field of config.method .* did you mean 'score'"),
    ("--config.optimizer.lr=3", "no field of config.optimizer is called 'lr'.*learning_rate"),
    ("--config.steps.x=3", "config.steps is 800 and has no field 'x'"),
]


@pytest.mark.parametrize(("argument", "words"), OVERRIDES)
def test_an_override_of_a_field_that_does_not_exist_names_the_nearest(argument, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match=words):
        command._refuse_misspelt(command._loaded(DIGITS), [argument])


LINES = [
    ([], "must have a value other than None"),
    (["--config=configs/digit.py"], "did you mean 'configs/digits.py'"),
    ([f"--config={DIGITS}", "--config.steps=abc"], "--config.steps=abc"),
    (
        [f"--config={DIGITS}", "--config.steps=0"],
        f"1 or more, not 0\n(from {DIGITS}, with config.steps=0 from the command line)",
    ),
    (
        [f"--config={DIGITS}", "--profile=7"],
        "--profile is FIRST:END in steps, as in 100:110, not '7'",
    ),
    ([f"--config={DIGITS}", "--profle=7:9"], "Did you mean: profile"),
    ([f"--config={DIGITS}", "more"], "unknown arguments: more"),
]


def test_the_command_line_ends_in_words_without_a_traceback_and_writes_nothing(tmp_path):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": ROOT}
    line = [sys.executable, "-m", "experiments.train", f"--workdir={tmp_path / 'run'}"]
    for arguments, words in LINES:
        ended = subprocess.run([*line, *arguments], check=False, **pipes)
        assert ended.returncode == 1, arguments
        assert words in ended.stdout and "Traceback" not in ended.stdout, ended.stdout
    ended = subprocess.run([*line[:-1], f"--config={DIGITS}"], check=False, **pipes)
    assert ended.returncode == 1 and "--workdir names the run's directory" in ended.stdout
    assert not (tmp_path / "run").exists()
