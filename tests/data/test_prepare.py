"""``data prepare``: what it writes is bit by bit what training would have seen, and no folder is left half-written or mixed."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from lightning_seg.data import SegmentationDataModule, prepare
from lightning_seg.data.__main__ import main
from lightning_seg.data.sources.base import DATASETS
from lightning_seg.errors import InputError


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """The arguments of a small data set of images and masks in groups of two."""
    for index in range(10):
        rng = np.random.default_rng(index)
        for part in ("images", "masks"):
            (tmp_path / "raw" / part).mkdir(parents=True, exist_ok=True)
        image = cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (80, 60))
        mask = cv2.ellipse(
            np.zeros((60, 80), np.uint8), (30 + index, 30), (20, 12), 9.0 * index, 0, 360, 255, -1
        )
        Image.fromarray(image).save(tmp_path / "raw" / "images" / f"P{index // 2} é_{index}.png")
        Image.fromarray(mask).save(tmp_path / "raw" / "masks" / f"P{index // 2} é_{index}.png")
    options = {"group_pattern": "^(P\\d+)"}
    return {
        "dataset": "folder",
        "root": str(tmp_path / "raw"),
        "protocol": "auto-3",
        "size": 32,
        "dataset_options": options,
    }


def items(data: dict[str, Any], split: str) -> list[dict[str, Any]]:
    module = SegmentationDataModule(**data, num_workers=0)
    module.setup("fit")
    module.setup("test")
    stored = module._datasets[split]
    return [stored[index] for index in range(len(stored))]


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(np.array_equal(first[part], second[part]) for part in ("image", "mask"))


def prepared(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))["data"]


def test_copies_are_bit_by_bit_those_made_while_training(
    data: dict[str, Any], tmp_path: Path
) -> None:
    prepare.prepare(data | {"augment": "unet_a", "seed": 7}, 3, tmp_path / "out")
    expected = items(data | {"augment": "unet_a", "seed": 7, "copies": 3, "online": False}, "train")
    found = {item["id"]: item for item in items(prepared(tmp_path / "out"), "train")}
    count = len(expected) // 3
    assert len(found) == len(expected) == 3 * count
    names = [
        item["id"] + (f"_copy{place // count}" if place >= count else "")
        for place, item in enumerate(expected)
    ]
    assert all(same(found[name], item) for name, item in zip(names, expected, strict=True))
    assert not same(found[names[0]], found[names[count]])


def test_validation_and_test_images_stand_once_and_unchanged(
    data: dict[str, Any], tmp_path: Path
) -> None:
    manifest = prepare.prepare(data | {"augment": "unet_a"}, 4, tmp_path / "out")
    for split in ("val", "test"):
        expected, found = items(data, split), items(prepared(tmp_path / "out"), split)
        assert [item["id"] for item in found] == [item["id"] for item in expected]
        assert all(same(*pair) for pair in zip(found, expected, strict=True))
    names = [path.name for path in (tmp_path / "out" / "images").iterdir()]
    assert len(names) == manifest["images"] == 6 * 4 + 4
    module = SegmentationDataModule(**prepared(tmp_path / "out"))
    assert {id.split("_copy")[0] for id in module.ids("train")}.isdisjoint(
        module.ids("val") + module.ids("test")
    )
    groups = module.source.groups
    assert all(groups[id] == id.split(" ")[0] for id in module.ids("train"))
    assert module.protocol_name == "auto-3-x4"


def test_several_classes_that_overlap_survive_as_label_pictures(tmp_path: Path) -> None:
    data = {
        "dataset": "phantom_ct",
        "size": 48,
        "dataset_options": {"count": 16, "resolution": 48},
        "protocol": "auto-1",
        "augment": "none",
    }
    prepare.prepare(data, 1, tmp_path / "out")
    module = SegmentationDataModule(**prepared(tmp_path / "out"))
    assert (module.classes, module.in_channels) == (("liver", "tumor"), 1)
    expected, found = items(data, "train"), items(prepared(tmp_path / "out"), "train")
    assert sum(int(item["mask"][1].sum()) for item in expected) > 0
    assert all(same(*pair) for pair in zip(found, expected, strict=True))


def test_an_interrupted_run_goes_on_and_ends_as_if_uninterrupted(
    data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare.prepare(data, 2, tmp_path / "whole")
    write, left = prepare.write_whole, [9]

    def failing(path: Path, content: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(prepare, "write_whole", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(data, 2, tmp_path / "out")
    begun = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    assert len(begun) == 8
    assert not (tmp_path / "out" / "data.yaml").exists()
    monkeypatch.setattr(prepare, "write_whole", write)
    resumed = prepare.prepare(data, 2, tmp_path / "out")
    assert resumed == whole
    assert all(path.stat().st_mtime_ns == time for path, time in begun.items())
    (tmp_path / "out" / "images").rename(tmp_path / "gone")
    assert prepare.prepare(data, 2, tmp_path / "out") == whole  # complete: nothing is read again


def test_a_folder_of_something_else_or_of_other_settings_is_left_alone(
    data: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    with pytest.raises(
        InputError, match=r"foreign holds other files; give an empty or a new folder"
    ):
        prepare.prepare(data, 2, tmp_path / "foreign")
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match=r"thesis\.txt is a file; give a folder"):
        prepare.prepare(data, 2, tmp_path / "foreign" / "thesis.txt")
    prepare.prepare(data, 2, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    for other, copies in (
        (data | {"size": 40}, 2),
        (data | {"augment": "none"}, 2),
        (data | {"protocol": "auto-4"}, 2),
        (data, 3),
    ):
        with pytest.raises(InputError, match="was prepared with other"):
            prepare.prepare(other, copies, tmp_path / "out")
    assert {
        path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()
    } == before
    (tmp_path / "out" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json is no manifest"):
        prepare.prepare(data, 2, tmp_path / "out")


def test_a_damaged_image_is_named_and_no_file_of_it_is_written(
    data: dict[str, Any], tmp_path: Path
) -> None:
    broken = sorted((tmp_path / "raw" / "images").iterdir())[4]
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(InputError, match=f"{broken.name} cannot be decoded"):
        prepare.prepare(data, 2, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(broken.stem)]
    assert not json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))[
        "complete"
    ]


def test_names_that_would_collide_are_refused_before_anything_is_written(
    data: dict[str, Any], tmp_path: Path
) -> None:
    for part in ("images", "masks"):
        paths = sorted((tmp_path / "raw" / part).iterdir())
        for path in paths:
            path.with_name(f"{path.stem}_copy1.png").write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"two images would be written as .*_copy1"):
        prepare.prepare(data, 2, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_one_sentence_and_what_stands_is_whole(
    data: dict[str, Any], small_disk: Path
) -> None:
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        prepare.prepare(data | {"size": 96}, 6, small_disk / "out")
    pictures = list((small_disk / "out").rglob("*.png"))
    assert pictures
    for path in pictures:
        Image.open(path).load()
    assert not list((small_disk / "out").rglob("*.part"))
    assert not (small_disk / "out" / "data.yaml").exists()


def test_the_command_prints_how_to_train_on_what_it_wrote(
    data: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    main(
        [
            "prepare",
            "folder",
            "--root",
            data["root"],
            "--dataset_options",
            "{group_pattern: '^(P\\d+)'}",
            "--protocol",
            "auto-3",
            *("--size", "32", "--augment", "2", "--preset", "none", "--output", str(out)),
        ]
    )
    printed = capsys.readouterr().out
    assert f"{out}: 16 images and masks, digest " in printed
    assert f"-c {out / 'data.yaml'}" in printed
    assert prepared(out)["dataset"] in DATASETS
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["settings"]["copies"] == 2
    assert {"python", "albumentations", "numpy"} <= set(manifest["versions"])
