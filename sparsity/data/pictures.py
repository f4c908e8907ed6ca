"""Sets of encoded pictures that lie on a disk: random access to the bytes, the label and the name of each."""

from typing import NamedTuple, Protocol


class Picture(NamedTuple):
    """An encoded image (JPEG, PNG), its label, and what to call it in an error."""

    data: bytes
    label: int
    where: str


class Pictures(Protocol):
    """A split of a set; it is safe to read from several threads and can be pickled."""

    @property
    def classes(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Picture: ...
