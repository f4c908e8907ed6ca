"""What the figures of a kernel benchmark say, in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

# What is measured against its dense counterpart.
VERBS = ("forward", "forward, unbalanced", "dX", "dW", "step")
# One product by two of a GPU's kernels.
RIVALS = ("forward, on panels", "forward, in tiles")
Parts = Sequence[Mapping[str, Any]]
# Below this a convolution is taken to gain nothing.
GAIN = 1.05
# Asked of whatever runs, at every density.
LEAST = 0.97


def losses(parts: Parts) -> str:
    """Where a step on the kernels is slower than dense, in words."""
    lost = []
    for part in parts:
        at = [float(p) for p, ratio in part["ratios"]["step"].items() if ratio < 1]
        if at:
            where = f"{part['layer']} ({part['dtype']}, block {part['block']})"
            lost.append(f"{where} from {min(at):g}% up")
    if not lost:
        return "No step that was measured here loses on the kernels."
    return f"A step on the kernels loses, and products run dense instead: {'; '.join(lost)}."


def convolutions(parts: Parts) -> str:
    """What steps of convolutions gain at 10%, and from which density up nothing."""
    found = []
    for part in parts:
        if "ResNet" not in part["layer"]:
            continue
        step = {float(p): ratio for p, ratio in part["ratios"]["step"].items()}
        nothing = [p for p, ratio in step.items() if ratio < GAIN]
        said = f"{step[10]:.1f} at 10%" if 10 in step else "not measured at 10%"
        said += f", nothing from {min(nothing):g}% up" if nothing else ""
        found.append(f"{part['layer']} ({part['dtype']}, block {part['block']}) {said}")
    return f"Steps of convolutions gain: {'; '.join(found)}." if found else ""


def peers(parts: Parts) -> str:
    """How the forward product stands to other packages' where that is closest, at 30% and below."""
    found: list[tuple[float, str]] = []
    for part in parts:
        for name in set(part["ratios"]) - {*VERBS, *RIVALS}:
            for percent, ratio in part["ratios"][name].items():
                if float(percent) <= 30:
                    times = part["ratios"]["forward"][percent] / ratio
                    found.append((times, f"{name}, block {part['block']}, {percent}%"))
    if not found:
        return ""
    times, where = min(found)
    return f"Forward is at least {times:.1f} times as fast as any other package at 30% and below ({where})."


def without(results: Mapping[str, Any]) -> list[str]:
    """Layers that no kernel of the device serves, and why."""
    found = results.get("without a kernel", {})
    lines = [f"- {name}: {reason}" for name, reason in found.items()]
    return ["These run dense, as there is no kernel for them:", "", *lines, ""] if found else []


def fallback(parts: Parts) -> str:
    """The fall-back's step, and that it is not what training and serving take in a kernel's place."""
    share = [part["fall-back"]["step"] for part in parts]
    return (
        "The fall-back unpacks the weight for each product (XLA joins forward's and dX's in one program); its step is "
        f"{min(share):.2f} to {max(share):.2f} times as fast as that of a weight kept dense, at the highest density "
        "measured. Training keeps a layer masked that is not expected to gain, and serving unpacks its weight once, "
        "when it is loaded: neither runs the fall-back in a kernel's place."
    )


def floor(parts: Parts) -> str:
    """What a product of packed blocks gets at every density: the faster of kernel and fall-back."""
    lines = []
    for verb in ("forward", "step"):
        found = [
            (max(ratio, part["fall-back"][verb]), _cell(part, percent))
            for part in parts
            for percent, ratio in part["ratios"][verb].items()
        ]
        least, where = min(found)
        below = sum(ratio < LEAST for ratio, _ in found)
        lines.append(
            f"{verb} at least {least:.2f} ({where}), below {LEAST} in {below} of {len(found)}"
        )
    return (
        "The faster of kernel and fall-back, against a weight kept dense, at every density measured: "
        f"{'; '.join(lines)}."
    )


def _cell(part: Mapping[str, Any], percent: str) -> str:
    return f"{part['layer']}, {part['dtype']}, block {part['block']}, {percent}%"
