"""Exports that are not compared in a process of their own."""

import pytest

from lightning_seg.export import _check, hf


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started to compare."""
    monkeypatch.setattr(
        hf, "check_folder", lambda folder, network: _check.FolderDifference(0.0, 0, 0.0)
    )
