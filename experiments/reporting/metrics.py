"""What a table reports of its runs: which number of a summary, how it is printed, and which way is better."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sparsity.data.tables import READERS
from sparsity.named import unknown

BETTER = ("higher", "lower")


class Metric(NamedTuple):
    """A number of the runs' summaries.

    field: in the summary. name: as printed. better: "higher" or "lower". scale: what it is multiplied by
    for printing. digits: behind the point. unit: of differences, as printed.
    """

    field: str = "accuracy"
    name: str = "test accuracy in percent"
    better: str = "higher"
    scale: float = 100
    digits: int = 2
    unit: str = "points"

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.better == "higher" else -1

    def text(self, value: float) -> str:
        """A printed value."""
        return f"{value:.{self.digits}f}"

    def signed(self, value: float) -> str:
        """A printed difference."""
        return f"{value:+.{self.digits}f}"


ACCURACY = Metric()
LOG_LOSS = Metric("loss", "log loss", "lower", 1, 4, "nats")
AUC = Metric("auc", "AUC", "higher", 1, 4, "of AUC")


def of_set(name: str) -> tuple[Metric, ...]:
    """What a data set is judged by where a config names no metrics: rows with a label of 0 or 1 by the two
    that click logs are published with, all else by accuracy.
    """
    return (LOG_LOSS, AUC) if name in READERS else (ACCURACY,)


def metrics(config: Mapping[str, Any]) -> tuple[Metric, ...]:
    """Those of a table's config or results; the first tunes and judges. By default the accuracy alone.

    Raises ValueError for a field of a metric that does not exist, and for another direction.
    """
    sections = config.get("metrics") or [ACCURACY._asdict()]
    return tuple(_metric(section) for section in sections)


def _metric(section: Mapping[str, Any]) -> Metric:
    for field in section:
        if field not in Metric._fields:
            raise unknown("field of a metric", field, Metric._fields)
    metric = Metric(**section)
    if metric.better not in BETTER:
        raise unknown("direction of a metric", metric.better, BETTER)
    return metric
