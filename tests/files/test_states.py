"""A file that was replaced has another state, whatever its size and time."""

import os
import time
from pathlib import Path

from lightning_seg.files.states import file_state


def test_a_replaced_file_of_the_same_size_and_time_has_another_state(tmp_path: Path) -> None:
    file = tmp_path / "mask.bmp"
    file.write_bytes(b"before")
    before, times = file_state(file), file.stat()
    assert file_state(file) == before
    time.sleep(0.05)  # the clock of file systems ticks slowly
    file.write_bytes(b"behind")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_mtime_ns == times.st_mtime_ns
    assert file_state(file) != before
