"""A row of the table: what was measured on which network, its bound, the verdict."""

from typing import Any, NamedTuple

from experiments.benchmarks.clocks import Samples, Spread, deciding, ratios


class Row(NamedTuple):
    """measured: by the deciding clock, in `unit`. wall: the median by the wall's; None where it is no time.

    bound: the most that is allowed; None is no bound.
    """

    network: str
    what: str
    unit: str
    measured: Spread
    wall: float | None = None
    bound: float | None = None

    @property
    def verdict(self) -> str:
        """held, missed or no bound."""
        if self.bound is None:
            return "no bound"
        return "held" if self.measured.median <= self.bound else "missed"


def ratio(
    network: str, what: str, samples: Samples, arm: str, base: str, bound: float | None = None
) -> Row:
    """The row of an arm in units of another, both of which took turns."""
    wall = ratios(samples, arm, base, "wall").median
    return Row(network, what, f"x {base}", ratios(samples, arm, base, deciding()), wall, bound)


def exact(network: str, what: str, unit: str, value: float, bound: float | None = None) -> Row:
    """The row of a number that is the same in every round."""
    return Row(network, what, unit, Spread(value, value, value), None, bound)


def plain(row: Row) -> dict[str, Any]:
    """The row as plain data, with its verdict."""
    return {**row._asdict(), "measured": row.measured._asdict(), "verdict": row.verdict}


class Figure(NamedTuple):
    """A number of what surrounds the steps, and what is to be read beside it."""

    what: str
    measured: float
    unit: str
    note: str
