"""What the compilers for TPUs and GPUs say of a kernel, read from their output."""

import re
from typing import NamedTuple

SPILLED = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"smem_scratch_bytes=(\d+)")
SERIAL = re.compile(r".*wgmma.*serializ.*", re.IGNORECASE)
VMEM = re.compile(r"size (\d+(?:\.\d+)?)([KMG]) and limit")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


class Said(NamedTuple):
    """What the GPU's compiler said of a kernel; None for what it did not mention.

    registers: of a thread. spilled: bytes written to and read from memory for want of registers.
    shared:    bytes of shared memory. serial: its warning that tensor cores wait for each other, or "".
    """

    registers: int | None
    spilled: int | None
    shared: int | None
    serial: str

    @property
    def problem(self) -> str:
        """Why the kernel is not to be used, in words; "" where there is no reason."""
        if self.spilled is None:
            return "the compiler said nothing of spills"
        return f"it spills {self.spilled} bytes" if self.spilled else self.serial


def read(text: str) -> Said:
    """The facts in a GPU compiler's output; of several kernels the largest."""
    spilled = [int(a) + int(b) for a, b in SPILLED.findall(text)]
    largest = lambda pattern: max(map(int, pattern.findall(text)), default=None)
    serial = SERIAL.search(text)
    return Said(
        largest(REGISTERS),
        max(spilled, default=None),
        largest(SHARED),
        serial.group(0).strip() if serial else "",
    )


def vmem_asked(error: str) -> int | None:
    """The bytes of VMEM that a TPU's compiler asked for when it was given too few; None if it did not."""
    found = VMEM.search(error)
    return round(float(found[1]) * UNITS[found[2]]) if found else None
