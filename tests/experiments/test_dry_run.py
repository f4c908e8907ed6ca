"""The dry run says what comes, and nothing comes of it."""

import re

import pytest

from experiments.assembly.assemble import assemble
from experiments.assembly.dry_run import described
from experiments.running.launch import Session, launch


@pytest.mark.parametrize("argument", ["sequential_attention", "grid,plan=acdc"])
def test_a_dry_run_names_the_compilations_the_costs_and_the_layers_of_the_run(
    argument, config_of, tmp_path
):
    config = config_of(argument, steps=80, evaluate_every=30, blocks__at_least=8, settle=1)
    text = described(config)
    programs = assemble(config).shared.programs
    before = dict(programs.compilations)
    summary = launch(config, tmp_path, Session(say=lambda line: None))
    named = re.search(r"(\d+) programs: ", text)
    # The dry run has compiled the training programs for their memory, and takes them off no list.
    assert named and int(named[1]) == len(programs.compilations) >= len(before)
    numbers = text.replace(",", "")
    assert f"{summary['parameters']} dense" in numbers and f"{summary['macs']} dense" in numbers
    assert f"{summary['parameters_live']} at the plan's end" in numbers
    assert f"{summary['macs_live']} at the plan's end" in numbers
    assert "params/dense1/kernel" in text and "the optimiser's state" in text
    assert text.count("a step, ") == len({k for k in programs.compilations if k[0] == "train"})


def test_the_chart_is_empty_before_the_pruning_and_full_after(config_of):
    lines = described(config_of("magnitude,plan=one_shot")).splitlines()
    chart = [line.split("│")[1] for line in lines if "│" in line]
    share = 34 / 40  # one_shot trains densely for 85%
    width = len(chart[0])
    for row in chart:
        assert row[: int(share * width)].strip() == ""
        assert row[-2:] == "██"
