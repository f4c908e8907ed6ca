"""What the kernels were built to reach, beside what they reach; for devices that none had, the prediction."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.benchmarks.kernel_layers import layers
from sparsity.kernels.backends import backend_of
from sparsity.kernels.calls import VERBS
from sparsity.kernels.explain import explain
from sparsity.kernels.model import MACHINES, predicted
from sparsity.kernels.tuned import Entry

# Forward, float32, 256 rows, 2048 x 2048, blocks 32 and 64, any mask: cores -> per cent -> ratio.
CPU = {1: {30: 2.2, 20: 3.3, 10: 5.5, 5: 9.5}, 2: {30: 1.7, 20: 2.4, 10: 5.0, 5: 7.5}}
CPU_LAYER = "256 rows, 2048 x 2048"
# Forward, bfloat16, 8192 rows, 4096 x 4096: block -> per cent -> ratio.
H200 = {
    128: {30: 2.3, 20: 3.4, 10: 6.0, 5: 7.0},
    64: {30: 1.4, 20: 2.1, 10: 4.0, 5: 6.5},
    32: {30: 1.0, 20: 1.2, 10: 2.3, 5: 4.3},
    16: {30: 1.0, 20: 1.0, 10: 1.2, 5: 2.4},
}
GPU_LAYER = "8192 rows, 4096 x 4096"
# Forward, bfloat16, blocks of 16 and K <= 1024, where a panel of x stays in shared memory: per cent -> ratio.
PANEL, PANEL_LAYER = {10: 2.0}, "8192 rows, 1024 x 4096"
# Of the forward product's goal, for the whole training step of the layer.
STEP = 0.9
GPU_GOALS = "the goal of 1.0 is the fall-back's, which `auto` takes below it"
PREDICTED = (
    "The model's ratios for 8192 rows, 4096 x 4096, bfloat16, from the device's ceilings alone; "
    "`make bench-kernels` on such a machine measures them in one call."
)


def goals(here: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Measured against the goals of a CPU with so many cores, or of a GPU; nothing for other devices."""
    if here["platform"] == "cuda":
        return _of_gpu(parts)
    asked = CPU.get(here["cores"], {}) if here["platform"] == "cpu" else {}
    kept = [p for p in parts if (p["layer"], p["dtype"]) == (CPU_LAYER, "float32")]
    kept = [p for p in kept if p["block"] in (32, 64)]
    if not asked or not kept:
        return []
    lines = [f"Goals for {CPU_LAYER}, float32, forward, any mask:", "", *_head(asked)]
    lines.append(_goal("goal", asked))
    for part in kept:
        for verb in ("forward", "forward, unbalanced"):
            lines.append(_row(f"block {part['block']}, {verb}", asked, part["ratios"][verb]))
            if fast := part.get("best", {}).get(verb):
                lines.append(_row("the same, fastest rounds", asked, fast))
    return [*lines, ""]


def _of_gpu(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    kept = {p["block"]: p["ratios"] for p in parts if p["layer"] == GPU_LAYER}
    if not kept:
        return []
    densities = H200[128]
    lines = [f"Goals for {GPU_LAYER}, bfloat16; {GPU_GOALS}:", "", *_head(densities)]
    for block, ratios in sorted(kept.items(), reverse=True):
        asked = H200[block]
        lines.append(_goal(f"block {block}, forward, goal", asked))
        for verb in ("forward", "forward, unbalanced"):
            lines.append(_row(f"block {block}, {verb}", asked, ratios[verb]))
        lines.append(_goal(f"block {block}, step, goal", asked, STEP))
        lines.append(_row(f"block {block}, step", asked, ratios["step"]))
    return [*lines, *_of_panels(parts, densities), ""]


def _of_panels(parts: Sequence[Mapping[str, Any]], densities: Mapping[int, float]) -> list[str]:
    """The rows of the goal of small blocks of few features."""
    found = [p["ratios"] for p in parts if (p["layer"], p["block"]) == (PANEL_LAYER, 16)]
    name = f"block 16, K <= 1024 ({PANEL_LAYER}), forward"
    asked = {str(p): ratio for p, ratio in PANEL.items()}
    lines = [_row(f"{name}, goal", densities, asked)]
    if not found:
        return [*lines, f"| {name} | " + " | ".join("unmeasured" for _ in densities) + " |"]
    return [*lines, _row(name, densities, found[0]["forward"])]


def _head(asked: Mapping[int, float]) -> list[str]:
    return ["| | " + " | ".join(f"{p}%" for p in asked) + " |", "| --- " * (1 + len(asked)) + "|"]


def _goal(name: str, asked: Mapping[int, float], share: float = 1.0) -> str:
    return _row(name, asked, {str(p): share * ratio for p, ratio in asked.items()})


def _row(name: str, asked: Mapping[int, float], ratios: Mapping[str, float]) -> str:
    cells = [f"{ratios[str(p)]:.2f}" if str(p) in ratios else "" for p in asked]
    return f"| {name} | " + " | ".join(cells) + " |"


def unmeasured(platforms: set[str]) -> str:
    """The model's word on devices that nobody measured, beside the goals."""
    lines = []
    for platform in ("cuda", "tpu"):
        if platform not in platforms:
            lines += _predicted(platform)
    return "\n".join(lines)


def _predicted(platform: str) -> list[str]:
    name = MACHINES[platform].name
    lines = [
        f"## {name}: unmeasured",
        "",
        f"No {name} was at hand. {PREDICTED}",
        "",
        "| block | product | 30% | 20% | 10% | 5% |",
        "| --- " * 6 + "|",
    ]
    for block, asked in H200.items():
        if platform == "cuda":
            lines.append(
                f"| {block} | forward, goal | {' | '.join(f'{r:g}' for r in asked.values())} |"
            )
        for verb in VERBS:
            entry = Entry(verb, 8192, (4096, 4096), (block, block), "bfloat16", None, {})
            ratios = [predicted(platform, entry.at(percent / 100)) for percent in asked]
            lines.append(f"| {block} | {verb}, model | {' | '.join(f'{r:.1f}' for r in ratios)} |")
    if platform == "cuda":
        lines += _panels_predicted(list(H200[16]))
    lines += ["", _convolutions(platform)]
    said = explain((8192, 4096, 4096), (64, 64), 0.1, "bfloat16", platform=platform)
    return [*lines, "", "```", str(said), "```", ""]


def _panels_predicted(percents: Sequence[int]) -> list[str]:
    entry = Entry("forward", 8192, (1024, 4096), (16, 16), "bfloat16", None, {})
    ratios = [predicted("cuda", entry.at(percent / 100)) for percent in percents]
    goal = " | ".join(f"{PANEL[p]:g}" if p in PANEL else "" for p in percents)
    found = " | ".join(f"{r:.1f}" for r in ratios)
    return [
        f"| 16, K = 1024 | forward, goal | {goal} |",
        f"| 16, K = 1024 | forward, model | {found} |",
    ]


def _convolutions(platform: str) -> str:
    """What the model says of ResNet-50's windows of one pixel, and which windows have no kernel."""
    found, dense = [], []
    for layer in layers(platform):
        if "ResNet" not in layer.name:
            continue
        entry = Entry("forward", layer.count, layer.shape, (64, 64), "bfloat16", layer.geometry, {})
        call = entry.at(0.1)
        if layer.geometry and backend_of(platform, call.layout, call.dtype, layer.geometry)[1]:
            dense.append(layer.name)
        else:
            found.append(f"{layer.name} {predicted(platform, call):.1f}")
    words = f"Convolutions, forward at 10% in blocks of 64, by the model: {'; '.join(found)}."
    return f"{words} Without a kernel, dense: {'; '.join(dense)}." if dense else words
