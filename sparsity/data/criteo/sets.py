"""A prepared set of click logs, mapped into memory, and its three parts."""

import json
from pathlib import Path

import numpy as np

from sparsity.data.criteo.lines import COLUMNS
from sparsity.data.criteo.prepare import FORMAT, PREPARED
from sparsity.data.files import Origin, find

FOLDER = "criteo"
# The cut that all published figures are of, for training, validation and test. 72:18:10 to the nearest row is another.
SPLIT = (33_003_326, 8_250_124, 4_587_167)
PUBLISHED = sum(SPLIT)
ADVICE = (
    "Put train.txt of the Criteo display-advertising challenge anywhere and run "
    "python -m experiments.prepare_criteo --source=train.txt --out={place}"
)
CRITEO = Origin("criteo", FOLDER, ADVICE)
GENERATED = Origin(
    "criteo_generated",
    "criteo_generated",
    "Run python -m experiments.generate_criteo --out={place}/train.txt --rows=400000 and then "
    "python -m experiments.prepare_criteo --source={place}/train.txt --out={place}",
)


def read(origin: Origin, root: Path | None) -> tuple[np.ndarray, int, int]:
    """Rows int32 (N, 40), mapped, not read; how many of their columns are numbers; the embedding's rows.

    Raises:
      FileNotFoundError: where the set has not been prepared: how to do it.
      ValueError: where its files are of another format or torn.
    """
    (described,) = find(root, origin, [PREPARED])
    try:
        found = json.loads(described.read_text())
        version, rows, file = found["format"], found["rows"], found["file"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{described} is damaged; prepare the set once more") from None
    if version != FORMAT:
        raise ValueError(f"{described} has format {version}, expected {FORMAT}; prepare it anew")
    path = described.parent / file["name"]
    size = path.stat().st_size if path.exists() else 0
    if size != file["bytes"]:
        raise ValueError(f"{path} holds {size} bytes of {file['bytes']}; prepare the set once more")
    mapped = np.load(path, mmap_mode="r")
    if mapped.shape != (rows, COLUMNS) or mapped.dtype != np.int32:
        raise ValueError(
            f"{path}: expected int32 {(rows, COLUMNS)}, found {mapped.dtype} {mapped.shape}"
        )
    return mapped, found["numbers"], sum(found["vocabulary"])
