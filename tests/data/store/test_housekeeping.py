"""``data cache``: sizes of what lies in the cache, and its removal but for what is being built."""

import os
import time
from pathlib import Path

import pytest

from lightning_seg.data.__main__ import main


def test_the_cache_is_listed_by_size_and_cleared_but_for_what_is_being_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    main(["cache"])
    assert "0.0 MiB in 0 entries" in capsys.readouterr().out
    folder = tmp_path / "lightning_seg"
    sizes = {"Kvasir-256x256-a-b": 3, "checks": 1, ".Kvasir-building": 1, ".Kvasir-left-behind": 2}
    for name, size in sizes.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "images.npy").write_bytes(bytes(size * 2**20))
    (folder / ".Kvasir.lock").touch()
    for path in (folder / ".Kvasir-left-behind", folder / ".Kvasir-left-behind" / "images.npy"):
        os.utime(path, (time.time() - 9999, time.time() - 9999))
    main(["cache"])
    out = capsys.readouterr().out
    assert out.index("Kvasir-256x256-a-b") < out.index("checks")
    assert "7.0 MiB in 4 entries" in out
    main(["cache", "--clear"])
    assert "6.0 MiB removed; 1 left, which are being built" in capsys.readouterr().out
    assert sorted(os.listdir(folder)) == [".Kvasir-building", ".Kvasir.lock"]
