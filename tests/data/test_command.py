"""``lightning-seg data``: the protocols, downloads, and that neither loads torch."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_seg import __main__ as front
from lightning_seg.data import download, kvasir_seg, load_protocol
from lightning_seg.data.__main__ import main
from lightning_seg.data.splits import protocol_names
from lightning_seg.errors import InputError


def test_all_protocols_are_listed_with_digest_sizes_and_rule(capsys: pytest.CaptureFixture[str]) -> None:
    main(["protocols"])
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if not line.startswith(" ")}
    assert rows.pop("name") == ["version", "digest", "train", "val", "test"]
    assert list(rows) == protocol_names()
    for name, row in rows.items():
        split = load_protocol(name)
        sizes = [str(len(ids)) for ids in split.ids.values()]
        assert row == [split.version, split.digest, *sizes, *(["leaks"] if split.leaks else [])]
        assert split.rule
        assert "".join(split.rule.split()) in "".join(printed.split())


def test_one_protocol_is_described_by_name_or_by_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["protocols", "drive"])
    printed = capsys.readouterr().out
    assert "the last 4 by name" in printed
    assert "kvasir" not in printed
    mine = tmp_path / "mine.csv"
    mine.write_text("# name: mine\n# version: 7\nid,split\na,train\nb,val\nc,test\nd,test\n")
    main(["protocols", str(mine)])
    printed = capsys.readouterr().out
    assert printed.splitlines()[1].split() == ["mine", "7", load_protocol(mine).digest, "1", "1", "2"]
    assert "rule: not stated" in printed


def test_a_misspelt_name_is_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    for args, sentence in (
        (["protocols", "drives"], "error: no protocol named 'drives'; did you mean 'drive'?"),
        (["download", "kvasir"], "error: no downloadable data set named 'kvasir'; did you mean 'kvasir_seg'?"),
    ):
        with pytest.raises(SystemExit) as stop:
            front.main(["data", *args])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith(sentence)
        assert error.count("\n") == 1


def test_download_fetches_below_root_and_prints_the_folder(
    make_kvasir: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_kvasir(tmp_path / "owners")
    monkeypatch.setattr(kvasir_seg, "COUNT", 4)
    monkeypatch.setattr(kvasir_seg, "FINGERPRINT", kvasir_seg.fingerprint(folder))
    archive = Path(shutil.make_archive(str(tmp_path / "kvasir-seg"), "zip", folder.parent, folder.name))
    monkeypatch.setitem(download.ARCHIVES, "kvasir_seg", (download.Part(archive.as_uri()),))
    root = tmp_path / "root"
    main(["download", "kvasir_seg", "--root", str(root)])
    assert capsys.readouterr().out.splitlines()[-1] == str(root / "Kvasir-SEG")
    assert len(list((root / "Kvasir-SEG" / "images").iterdir())) == 4


def test_download_without_a_place_to_go_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHTNING_SEG_DATA", raising=False)
    with pytest.raises(InputError, match="give root or set LIGHTNING_SEG_DATA"):
        main(["download", "kvasir_seg"])


def test_neither_torch_nor_albumentations_is_loaded(make_kvasir: Callable[..., Path], tmp_path: Path) -> None:
    make_kvasir(tmp_path)
    code = (
        "import sys; from lightning_seg.__main__ import main; main(['data', 'protocols']); "
        f"main(['data', 'download', 'kvasir_seg', '--root', {str(tmp_path)!r}]); "
        "print({'torch', 'lightning', 'albumentations', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "set()"
