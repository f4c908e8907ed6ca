"""The report's laws, on the directories of real runs, whole, halved and damaged."""

import html
import html.parser
import itertools
import re
import shutil
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import digits
from experiments.reporting import canvas, figures, page, runs
from experiments.reporting.comparison import marks
from experiments.reporting.tradeoff import tradeoff
from experiments.running.launch import Session, launch

STEPS = 30
# All but the dense one share their programs, whatever they are called.
ATTENTION = "sequential_attention,plan=gradual"
GRID = (
    ("dense", "dense", "1", 0),
    ("attention", ATTENTION, "0.1", 0),
    ("attention", ATTENTION, "0.1", 1),
    ("attention, again", ATTENTION, "0.1", 2),
)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Directories of four short runs on digits: (label, density, seed, directory)."""
    root = tmp_path_factory.mktemp("grid")
    entries = []
    for label, argument, density, seed in GRID:
        config = digits.get_config(argument)
        config.density, config.seed, config.steps = density, seed, STEPS
        config.log_every = config.evaluate_every = 5
        folder = root / f"{label}-{density}-{seed}"
        launch(config.to_dict(), folder, Session(say=lambda text: None))
        entries.append((label, density, seed, folder))
    return entries


@pytest.fixture
def copied(grid, tmp_path):
    """The same runs in directories that a test may damage."""
    return [
        (label, density, seed, shutil.copytree(folder, tmp_path / folder.name))
        for label, density, seed, folder in grid
    ]


def rows_of(entries):
    """The table of the finished runs."""
    rows = []
    for (label, _), group in itertools.groupby(entries, key=lambda entry: entry[:2]):
        found = [trace.summary for entry in group if (trace := runs.read(*entry)).summary]
        if not found:
            continue
        accuracies = [100 * one["accuracy"] for one in found]
        rows.append(
            {
                "method": label,
                "asked": found[0]["asked_sparsity"],
                "achieved": found[0]["achieved_sparsity"],
                "accuracy": float(np.mean(accuracies)),
                "sd": float(np.std(accuracies, ddof=1)) if len(found) > 1 else None,
                "seeds": len(found),
                "parameters": found[0]["parameters_live"],
                "macs": found[0]["macs_live"],
            }
        )
    return rows


def document_of(entries, known=None):
    return page.of_runs(entries, rows_of(entries), known or {})


def text_of(document):
    """What a reader reads, spaces made single."""
    bare = re.sub(r"<style.*?</style>", "", document, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", bare)))


class Parts(html.parser.HTMLParser):
    """The elements and attributes of a document, and whether its tags close."""

    def __init__(self, document):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def document(grid):
    """The report of the whole grid."""
    return document_of(grid)


def test_a_page_needs_nothing_beside_itself(document):
    parts = Parts(document)
    assert parts.open == []
    assert not {"script", "link", "iframe", "img", "object", "base"} & set(parts.tags)
    fetched = [value for name, value in parts.attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith("#") for value in fetched)
    assert "http" not in document and "@import" not in document
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", document))


def test_a_page_stays_small(document):
    assert len(document.encode()) < 1_000_000


def test_every_number_of_a_row_is_in_the_table(grid, document):
    text = text_of(document)
    for row in rows_of(grid):
        sd = f" ± {row['sd']:.2f}" if row["sd"] is not None else ""
        for number in (
            f"{row['accuracy']:.2f}{sd}",
            f"{100 * row['achieved']:.2f}%",
            f"{row['parameters']:,}",
            f"{row['macs']:,}",
        ):
            assert number in text


def test_a_drawn_mask_keeps_what_the_summary_counts(grid):
    for label, density, seed, folder in grid:
        trace = runs.read(label, density, seed, folder)
        masks = runs.masks(trace)
        dead = sum(int(np.sum(~mask.astype(bool))) for mask in masks.values())
        # Blocks of 8x8 divide this network's layers, so that each dead block is 64 parameters.
        assert 64 * dead == trace.summary["parameters"] - trace.summary["parameters_live"]
        for name, mask in masks.items():
            drawn = figures.block_mask(mask, canvas.styles([label])[label])
            assert cells(drawn) == np.count_nonzero(mask), name


def cells(svg):
    """Filled cells in the picture of a mask."""
    return len(re.findall(r"<path", svg.split('id="PolyCollection')[1].split("</g>")[0]))


def test_the_sparsity_over_time_ends_where_the_summary_does(grid):
    for entry in grid:
        trace = runs.read(*entry)
        curve = runs.sparsity(trace)
        assert curve.steps[-1] == STEPS
        assert curve.values[-1] == pytest.approx(trace.summary["achieved_sparsity"], abs=1e-12)
        assert [span.start for span in runs.spans(trace)[1:]] == [
            span.stop for span in runs.spans(trace)[:-1]
        ]


def test_the_last_evaluation_of_the_metrics_is_the_summary(grid):
    for entry in grid:
        trace = runs.read(*entry)
        curve = runs.series(trace, "eval", "accuracy")
        assert (curve.steps[-1], curve.values[-1]) == (STEPS, trace.summary["accuracy"])


def test_a_half_finished_grid_gives_a_half_filled_table_and_says_so(copied):
    for *_, folder in (copied[2], copied[3]):
        (folder / "summary.json").unlink()
    (copied[2][3] / "status.json").write_text('{"status": "diverged", "cause": "loss is nan"}')
    shutil.rmtree(copied[3][3])
    document = document_of(copied)
    text = text_of(document)
    assert Parts(document).open == []
    assert "2 of 4 runs are finished" in text
    assert "attention, density 0.1, seed 1: diverged: loss is nan" in text
    assert "attention, again, density 0.1, seed 2: not started" in text
    assert "1 of 2" in text and "no run is finished" in text


def test_a_grid_that_has_not_begun_is_said_in_words(tmp_path):
    text = text_of(page.of_runs([("dense", "1", 0, tmp_path / "none")], [], {}))
    assert "0 of 1 runs are finished" in text
    assert "nothing to report" in text_of(page.of_runs([], [], {}))


def test_one_run_is_a_report_too(grid):
    document = document_of(grid[3:])
    text = text_of(document)
    for name in runs.masks(runs.read(*grid[3])):
        assert name in text
    assert "Entropy of the attention" in text and "1 of 1 runs are finished" in text


def test_names_and_facts_are_text_and_never_markup(grid):
    wicked = "<script>alert('&')</script>"
    entries = [(wicked, *entry[1:]) for entry in grid[1:3]]
    document = document_of(entries, {wicked: wicked})
    assert "<script" not in document
    assert Parts(document).open == []
    assert text_of(document).count(wicked) >= 3


def test_a_damaged_line_of_the_metrics_costs_that_line_alone(copied):
    path = copied[1][3] / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], '{"event": "tra\n', "[1, 2]\n", *lines[3:], '{"ev']))
    trace = runs.read(*copied[1])
    assert len(trace.records) == len(lines) and trace.broken == 3
    assert "3 lines of the metrics could not be read" in text_of(document_of(copied[1:2]))


def test_a_damaged_summary_or_model_counts_as_missing(copied):
    (copied[0][3] / "summary.json").write_text('{"accuracy": 0.')
    for file in copied[1][3].glob("model.*"):
        file.write_bytes(b"\0")
    assert runs.masks(runs.read(*copied[1])) == {}
    text = text_of(document_of(copied[:2]))
    assert "1 of 2 runs are finished" in text and "no masks to draw" in text
    assert runs.state(runs.read(*copied[0])) == "without a summary"


def test_a_report_is_replaced_whole_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "deep" / "report.html"
    for title in ("first", "second"):
        assert page.write(path, [], [], {}, title=title) == path
        assert f"<h1>{title}</h1>" in path.read_text()
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_method_has_one_colour_in_every_picture(grid):
    looks = canvas.styles(["dense", "a", "b"])
    assert len({look.colour for look in looks.values()}) == 3
    rows = [{**row, "method": "b"} for row in rows_of(grid) if row["asked"]]
    curve = runs.Curve((0, STEPS), (0.0, 0.9))
    own = f"var(--{looks['b'].name},"
    for svg in (
        tradeoff(rows, looks),
        figures.sparsity_over_time(curve, (), STEPS, looks["b"]),
        figures.curves([figures.Line("b", curve, looks["b"])], STEPS, "loss"),
        figures.block_mask(np.ones((2, 3)), looks["b"]),
    ):
        assert own in svg and f"var(--{looks['a'].name}," not in svg


scores = st.tuples(st.integers(0, 400).map(lambda n: n / 4), st.sampled_from([None, 0.0, 0.5, 3.0]))


@given(st.lists(scores, min_size=2, max_size=5))
def test_what_lies_within_one_sd_of_the_best_is_marked_and_nothing_else(drawn):
    rows = [{"asked": 0.9, "accuracy": mean, "sd": sd} for mean, sd in drawn]
    marked = marks(rows)
    best = rows[marked.index("best")]
    assert marked.count("best") == 1
    assert best["accuracy"] == max(row["accuracy"] for row in rows)
    for row, mark in zip(rows, marked, strict=True):
        reach = max(best["sd"] or 0.0, row["sd"] or 0.0)
        assert bool(mark) == (best["accuracy"] - row["accuracy"] <= reach)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(0, 9))
def test_labels_are_pushed_apart_and_no_further_than_needed(wanted, apart):
    wanted = sorted(wanted)
    exact = [Fraction(want) for want in wanted]
    placed = canvas.spread_apart(exact, Fraction(apart))
    assert all(b - a >= apart for a, b in itertools.pairwise(placed))
    assert sum(placed) == sum(exact)
    if all(b - a >= apart for a, b in itertools.pairwise(exact)):
        assert placed == exact
