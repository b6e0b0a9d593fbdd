"""Freed memory stays with the process: what a step asks for again is there, without new pages."""

import subprocess
import sys

import pytest

MEASURE = """
import resource, torch
from lightning_seg.training.heap import keep_freed_memory

def step():
    x = torch.ones(12 * 2**20)
    doubled = 2 * x
    both = torch.cat([x, doubled])
    return both.relu().shape

def new_pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def pages_of_a_step():
    torch.ones(100 * 2**20)
    step()
    before = new_pages()
    step()
    return new_pages() - before

print(pages_of_a_step())
assert keep_freed_memory()
print(pages_of_a_step())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_a_step_asks_for_large_blocks_without_new_pages() -> None:
    found = subprocess.check_output([sys.executable, "-c", MEASURE], text=True)
    usual, kept = map(int, found.split())
    assert kept < usual / 2
