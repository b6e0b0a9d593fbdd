"""What was adopted trains, tests, reports and predicts without another option."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import layouts

from lightning_seg.__main__ import main


def command(*args):
    """Run a command within this process; its exit code."""
    try:
        main([str(arg) for arg in args])
    except SystemExit as end:
        return end.code or 0
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(layouts.LAYOUTS))
def test_a_folder_becomes_a_reported_model(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LIGHTNING_SEG_WEIGHTS", raising=False)
    folder = layouts.make_layout(name, tmp_path / "data")
    assert command("data", "adopt", folder, "--output", "my.yaml", "--check") == 0
    assert Path("my.png").stat().st_size > 1000
    assert command("fit", "-c", "my.yaml", "--trainer.max_epochs", "1") == 0
    assert command("test", "--ckpt_path", "runs/my") == 0
    assert command("report", "runs/my") == 0
    assert list(Path("runs/my").rglob("report.html"))
    assert command("predict", "--ckpt_path", "runs/my") == 0
    scans = layouts.SCANS.get(name)
    files = folder / scans if scans else next(folder.rglob("*.??g"), folder)
    assert command("predict", "--ckpt_path", "runs/my", "--input", files, "--output", "out") == 0
    assert list(Path("out/masks").rglob("*.*"))
    assert "Traceback" not in capsys.readouterr().err
