"""Pages of results as files side by side: one stem, a suffix for each."""

from collections.abc import Mapping
from pathlib import Path


def write(stem: Path, texts: Mapping[str, str]) -> list[Path]:
    """Writes stem + suffix for each {suffix: text}, making the folder; returns the paths in order."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(stem.name + suffix) for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths
