"""``lightning-seg data``: protocols, downloads, check and show, and that torch is loaded only to show."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg import __main__ as front
from lightning_seg.data import load_protocol
from lightning_seg.data.__main__ import main
from lightning_seg.data.sources import kvasir_seg
from lightning_seg.data.sources.base.origins import Archive
from lightning_seg.data.sources.kvasir_seg import KvasirSEG
from lightning_seg.data.splits import protocol_names
from lightning_seg.errors import InputError


def test_all_protocols_are_listed_with_digest_sizes_and_rule(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["protocols"])
    printed, _, rules = capsys.readouterr().out.partition("\n\n")
    assert all(
        rule in rules
        for rule in ("auto", "fold-<i>-of-<k>", "leave-<group>", "half-<seed>", "test-only")
    )
    rows = {
        line.split()[0]: line.split()[1:]
        for line in printed.splitlines()
        if not line.startswith(" ")
    }
    assert rows.pop("name") == ["version", "digest", "train", "val", "test"]
    assert list(rows) == protocol_names()
    for name, row in rows.items():
        split = load_protocol(name)
        sizes = [str(len(ids)) for ids in split.ids.values()]
        assert row == [split.version, split.digest, *sizes, *(["leaks"] if split.leaks else [])]
        assert split.rule
        assert "".join(split.rule.split()) in "".join(printed.split())


def test_one_protocol_is_described_by_name_or_by_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["protocols", "drive"])
    printed = capsys.readouterr().out
    assert "the last 4 by name" in printed
    assert "kvasir" not in printed
    main(["protocols", "kvasir-880-120"])
    printed = capsys.readouterr().out
    assert "LEAKS: 23 known pairs" in printed
    pair = "cju33za6l2qy70988jhrlp2ev (train) and cjyzjzssvd8pq0838f4nolj5l (test), same picture"
    assert pair in printed
    assert printed.count(", same view\n") + printed.count(", same picture\n") == 23
    mine = tmp_path / "mine.csv"
    mine.write_text("# name: mine\n# version: 7\nid,split\na,train\nb,val\nc,test\nd,test\n")
    main(["protocols", str(mine)])
    printed = capsys.readouterr().out
    assert printed.splitlines()[1].split() == [
        "mine",
        "7",
        load_protocol(mine).digest,
        "1",
        "1",
        "2",
    ]
    assert "rule: not stated" in printed


def test_a_misspelt_name_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for args, sentence in (
        (["protocols", "drives"], "error: no protocol named 'drives'; did you mean 'drive'?"),
        (
            ["download", "kvasir"],
            "error: no downloadable data set named 'kvasir'; did you mean 'kvasir_seg'?",
        ),
        (["protocols", "folder"], "error: 'folder' is a data set, whose own protocol is 'auto'"),
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
    archive = Path(
        shutil.make_archive(str(tmp_path / "kvasir-seg"), "zip", folder.parent, folder.name)
    )
    here = replace(KvasirSEG.origin, archives=(Archive(archive.as_uri()),))
    monkeypatch.setattr(KvasirSEG, "origin", here)
    root = tmp_path / "root"
    main(["download", "kvasir_seg", "--root", str(root)])
    assert capsys.readouterr().out.splitlines()[-1] == str(root / "Kvasir-SEG")
    assert len(list((root / "Kvasir-SEG" / "images").iterdir())) == 4


def test_download_without_a_place_to_go_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHTNING_SEG_DATA", raising=False)
    with pytest.raises(InputError, match="give root or set LIGHTNING_SEG_DATA"):
        main(["download", "kvasir_seg"])


def test_neither_torch_nor_albumentations_is_loaded(
    make_kvasir: Callable[..., Path], tmp_path: Path
) -> None:
    make_kvasir(tmp_path)
    code = (
        "import sys; from lightning_seg.__main__ import main; main(['data', 'protocols']); "
        f"main(['data', 'download', 'kvasir_seg', '--root', {str(tmp_path)!r}]); "
        "from lightning_seg.data import check as integrity; from lightning_seg.data.check import page, summary; "
        "print({'torch', 'lightning', 'albumentations', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "set()"


def checked(args: list[str]) -> int:
    try:
        front.main(["data", "check", *args])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def protocol_file(path: Path, assigned: dict[str, str]) -> str:
    path.write_text("id,split\n" + "".join(f"{id},{split}\n" for id, split in assigned.items()))
    return str(path)


def test_check_ends_with_0_when_clean_1_on_a_leak_or_damage_and_2_on_bad_input(
    make_kvasir: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_kvasir(tmp_path, ("a", "b", "c", "d", "e"))
    Image.open(folder / "images" / "a.jpg").save(folder / "images" / "e.jpg", quality=98)
    Image.open(folder / "masks" / "b.jpg").resize((80, 60)).save(folder / "masks" / "e.jpg")
    base = [
        "folder",
        "--root",
        str(folder),
        "--dataset_options",
        "{mask_threshold: 100}",
        "--protocol",
    ]
    splits = {"a": "train", "b": "train", "c": "val", "d": "test"}
    apart = protocol_file(tmp_path / "apart.csv", splits | {"e": "test"})
    together = protocol_file(tmp_path / "together.csv", splits | {"e": "train"})
    page = tmp_path / "page.html"
    assert checked([*base, together, "--html", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "nothing crosses its splits" in printed
    assert f"page: {page}" in printed
    assert "a (together: train)" in page.read_text(encoding="utf-8")
    assert checked([*base, together, apart]) == 1
    assert "a (train) and e (test)" in " ".join(capsys.readouterr().out.split())
    assert checked([*base, apart, "--no_near"]) == 0
    (folder / "images" / "d.jpg").write_bytes(b"")
    assert checked([*base, together, "--no_near"]) == 1
    assert "d.jpg (0 bytes)" in " ".join(capsys.readouterr().out.split())
    for args, sentence in (
        (["folders"], "no data set named 'folders'; did you mean 'folder'?"),
        (["folder", "--root", str(tmp_path / "gone")], "does not exist"),
        (
            ["folder", "--root", str(folder), "--dataset_options", "{mask_treshold: 1}"],
            "did you mean 'mask_threshold'?",
        ),
        (
            [*base, together, "--likeness", "40"],
            "--likeness is 40; give a number above 0 and up to 1",
        ),
        (["kvasir_seg", "--protocol", "kvasir-unet"], "no protocol named 'kvasir-unet'"),
        ([*base, together, "--no_near", "--html", str(folder)], "cannot be written"),
    ):
        capsys.readouterr()
        assert checked(args) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert error.count("\n") == 1


def test_check_reads_the_masks_as_the_recipe_says_and_counts_those_that_it_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, root = np.random.default_rng(0), tmp_path / "mine"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for name, edge in zip("abcdefgh", (255, 255, 90, 255, 255, 255, 255, 160), strict=True):
        mask = np.zeros((32, 32), np.uint8)
        mask[8:16, 8:16], mask[8] = 255, edge
        pixels = rng.integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{name}.png")
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    splits = dict.fromkeys("abcdef", "train") | {"g": "val", "h": "test"}
    protocol = protocol_file(tmp_path / "mine.csv", splits)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"data:\n  dataset: folder\n  root: {root}\n  protocol: {protocol}\n"
        "  dataset_options: {mask_threshold: 127}\n"
    )
    assert checked(["-c", str(recipe), "--no_near"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "all files can be read" in printed
    assert "protocol mine 6/1/1 ids" in printed
    assert "masks that can be read" not in printed
    assert checked(["folder", "--root", str(root), "--protocol", protocol, "--no_near"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 cannot be read" in printed
    assert printed.count("; over the 6 of 8 masks that can be read") == 2
    for args in ([], ["folder", "-c", str(recipe)]):
        assert checked(args) == 2
        assert "`data check` needs a data set or a recipe" in capsys.readouterr().err


def test_show_writes_one_row_an_image_and_one_column_an_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "seed_everything: 3\ndata:\n  dataset: phantom_polyp\n  protocol: auto-1\n  size: 64\n  augment: unet_a\n"
        "  dataset_options: {count: 20, resolution: 64}\n"
    )
    sheet = tmp_path / "sheets" / "sheet.png"
    base = ["data", "show", "-c", str(recipe), "--output", str(sheet), "--count", "3"]
    front.main([*base, "--epochs", "2"])
    assert "3 train images in rows, as read and then 2 times augmented" in capsys.readouterr().out
    first = (
        np.asarray(Image.open(sheet)).reshape(3, 244, 3, 228, 3).transpose(0, 2, 1, 3, 4)[:, :, 16:]
    )
    assert not np.array_equal(first[0, 1], first[0, 2])  # another epoch, another change
    front.main([*base, "--epochs", "1", "--epoch", "2"])
    later = (
        np.asarray(Image.open(sheet)).reshape(3, 244, 2, 228, 3).transpose(0, 2, 1, 3, 4)[:, :, 16:]
    )
    assert np.array_equal(later[:, 0], first[:, 0])
    assert np.array_equal(later[:, 1], first[:, 2])
    front.main([*base, "--copies", "2", "--epoch", "2"])
    copies = (
        np.asarray(Image.open(sheet)).reshape(3, 244, 3, 228, 3).transpose(0, 2, 1, 3, 4)[:, :, 16:]
    )
    assert np.array_equal(copies[:, 1], first[:, 2])
    assert not np.array_equal(copies[:, 2], first[:, 2])
    front.main([*base, "--split", "test"])
    assert np.asarray(Image.open(sheet)).shape[1] == 228  # what is tested on is not changed


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "needs a data set or a recipe"),
        (["phantom_polyp", "--output", "sheet.bmpx"], "ends with .png or .jpg"),
        (["phantom_polyp", "--augment", "unet_b"], "no augmentation preset named 'unet_b'"),
        (["-c", "gone.yaml"], "there is no recipe"),
        (["phantom_polyp", "--epoch", "0"], "--epoch is 0"),
    ],
)
def test_show_refuses_in_one_sentence(
    args: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        main(["show", *args])
    assert sentence in str(caught.value)
    assert not list(tmp_path.iterdir())
