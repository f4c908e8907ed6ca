"""What compilers for absent devices say is read as they say it, and what is wrong with a kernel is told."""

import pytest

from experiments.compiled.compilers import Said, read, vmem_asked
from experiments.reporting.compiled import cells, merged, page

# As ptxas and Mosaic wrote it of a kernel for sm_90a.
CLEAN = """\
Resources(smem_scratch_bytes=212992, tmem_scratch_cols=0, barrier_counts=Counter())
ptxas info    : (C7519) warpgroup.arrive is injected in around line 552 by compiler to allow use of
registers in GMMA in function 'block_sparse_product_mosaic_gpu_kernel'
ptxas info    : 0 bytes gmem
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 168 registers, used 16 barriers, 1 bytes smem
"""
SPILLING = CLEAN.replace("0 bytes spill stores, 0", "12 bytes spill stores, 20")
SERIAL = (
    "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due "
    "to insufficient register resources for the wgmma pipeline in function 'block_sparse_product'"
)
VMEM = (
    "RESOURCE_EXHAUSTED: E1001: CompileTimeScopedVmemOom:\nRan out of memory in memory space vmem while "
    "allocating on stack for %block_sparse_product.1. Scoped allocation with size 8.38M and limit 4.00M "
    "exceeded scoped vmem limit by 4.38M."
)


def test_a_clean_kernel_has_its_facts_and_no_problem():
    said = read(CLEAN)
    assert said == Said(registers=168, spilled=0, shared=212992, serial="")
    assert said.problem == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SPILLING, "spills 32 bytes"),
        (CLEAN + SPILLING, "spills 32 bytes"),
        (CLEAN + SERIAL, "instructions are serialized due to insufficient register"),
        ("", "said nothing of spills"),
    ],
)
def test_a_kernel_that_is_not_to_be_used_has_its_reason(text, words):
    assert words in read(text).problem


def test_the_vmem_that_a_compiler_asks_for_is_read_in_bytes():
    assert vmem_asked(VMEM) == round(8.38 * 2**20)
    assert vmem_asked("INTERNAL: Mosaic failed to compile TPU kernel") is None


def row(**fields):
    common = {"verb": "dX", "block": (16, 32), "dtype": "bfloat16", "problem": "", "seconds": 2.0}
    return {**common, **fields}


def test_the_page_has_a_row_per_kernel_in_its_device_kinds_table():
    tpu = row(target="v5e", vmem=None, vmem_planned=2**23, smem_planned=2**11, temporary=2**20)
    gpu = row(
        target="h200", registers=168, spilled=0, shared=212992, shared_planned=212992, stages=3,
        temporary=0,
    )  # fmt: skip
    broken = row(target="h200", problem="it fell")
    text = page(
        {
            "shape": (8192, 4096, 2048),
            "density": 0.1,
            "command": "make aot",
            "versions": {"jax": "0.12"},
            "kernels": [tpu, gpu, broken],
        }
    )
    tpus, h200 = text.split("## H200")
    assert "| v5e | 16x32 | bfloat16 | dX | - | 8.00 | 2.0 | 1.0 |  |" in tpus
    assert "| h200 | 16x32 | bfloat16 | dX | 168 | 0 | 208.0 | 208.0 | 3 | 0.0 |  |" in h200
    assert "| - | it fell |" in h200 and "h200" not in tpus.partition("\n\n")[2]
    assert cells(broken) == ["it fell", "2.0 s"]


def test_kernels_that_the_same_versions_compiled_before_are_kept():
    results = lambda jax, *rows: {"versions": {"jax": jax}, "kernels": list(rows)}
    old, new, other = row(target="v5e"), row(target="v5e", seconds=3.0), row(target="h200")
    assert merged(results("0.12", old, other), results("0.12", new))["kernels"] == [other, new]
    assert merged(results("0.11", old, other), results("0.12", new))["kernels"] == [new]
