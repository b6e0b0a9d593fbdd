"""STARE and CHASE_DB1 in their owners' layouts, drawn small."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import SegmentationDataModule, load_protocol
from lightning_seg.data.sources import chase_db1, stare
from lightning_seg.data.sources.chase_db1 import CHASEDB1
from lightning_seg.data.sources.stare import STARE
from lightning_seg.data.splits import PROTOCOLS, check
from lightning_seg.errors import InputError

SHAPE = (24, 30)
STARE_IDS = [f"im{number:04d}" for number in stare.NUMBERS]
CHASE_IDS = [f"Image_{child:02d}{eye}" for child in range(1, 15) for eye in "LR"]


def vessel(row: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[row % SHAPE[0]] = 255
    return mask


def photograph(row: int) -> np.ndarray:
    return np.stack([vessel(row), np.full(SHAPE, 90), np.full(SHAPE, row)], axis=2).astype(np.uint8)


def save_ppm(path: Path, pixels: np.ndarray, packed: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PPM")
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content.getvalue()))
    else:
        path.write_bytes(content.getvalue())


def write_stare(parent: Path, packed: bool = True, images: str = "stare-images") -> Path:
    for row, id in enumerate(STARE_IDS):
        save_ppm(parent / "STARE" / images / f"{id}.ppm", photograph(row), packed)
        save_ppm(parent / "STARE" / "labels-ah" / f"{id}.ah.ppm", vessel(row), packed)
        save_ppm(parent / "STARE" / "labels-vk" / f"{id}.vk.ppm", vessel(row + 1), packed)
    return parent / "STARE"


@pytest.mark.parametrize(("packed", "images"), [(True, "stare-images"), (False, "images")])
def test_stare_is_read_as_its_archives_hold_it_or_unpacked(
    tmp_path: Path, packed: bool, images: str
) -> None:
    folder = write_stare(tmp_path, packed, images)
    source = STARE(folder)
    assert source.ids == STARE_IDS
    assert source.groups == {id: id for id in STARE_IDS}
    for row, id in ((0, "im0001"), (19, "im0324")):
        image, mask, _ = source.read(id)
        assert np.array_equal(image, photograph(row))
        assert np.array_equal(mask[..., 0], vessel(row) // 255)
    assert np.array_equal(STARE(tmp_path, "vk").read("im0001").mask[..., 0], vessel(1) // 255)


def test_a_damaged_archive_of_stare_is_named(tmp_path: Path) -> None:
    source = STARE(write_stare(tmp_path))
    broken = tmp_path / "STARE" / "stare-images" / "im0001.ppm.gz"
    whole = broken.read_bytes()
    for content in (whole[:40], b"", whole[:-4] + b"xxxx", b"no gzip"):
        broken.write_bytes(content)
        with pytest.raises(InputError, match=r"im0001\.ppm\.gz"):
            source.read("im0001")


def test_stare_has_the_split_of_its_paper_and_leaves_one_out(tmp_path: Path) -> None:
    split = load_protocol("stare-16-4")
    assert split.ids["test"] == ("im0255", "im0291", "im0319", "im0324")
    assert [len(ids) for ids in split.ids.values()] == [14, 2, 4]
    assert stare.protocol() == (PROTOCOLS / "stare-16-4.csv").read_text(encoding="utf-8")
    folder = str(write_stare(tmp_path))
    check(split, STARE(Path(folder)))
    tested = []
    for id in STARE_IDS:
        data = SegmentationDataModule(
            "stare", folder, protocol=f"leave-{id}", size=16, batch_size=2
        )
        assert [len(data.ids(name)) for name in ("train", "val", "test")] == [17, 2, 1]
        tested += data.ids("test")
    assert tested == STARE_IDS


def write_chase(folder: Path, images: str = ".", masks: str = ".") -> Path:
    for row, id in enumerate(CHASE_IDS):
        for part, name, pixels in (
            (images, f"{id}.png", photograph(row)),
            (masks, f"{id}_1stHO.png", vessel(row)),
            (masks, f"{id}_2ndHO.png", vessel(row + 1)),
        ):
            (folder / part).mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(pixels)
            (picture.convert("1") if "HO" in name else picture).save(folder / part / name)
    return folder


@pytest.mark.parametrize("parts", [(".", "."), ("images", "masks")])
def test_chase_db1_is_read_from_one_folder_or_two(tmp_path: Path, parts: tuple[str, str]) -> None:
    source = CHASEDB1(write_chase(tmp_path / "CHASEDB1", *parts))
    assert source.ids == CHASE_IDS
    assert source.groups["Image_03L"] == source.groups["Image_03R"] == "child 03"
    image, mask, _ = source.read("Image_14R")
    assert np.array_equal(image, photograph(27))
    assert np.array_equal(mask[..., 0], vessel(27) // 255)
    second = CHASEDB1(tmp_path, "2ndHO")
    assert np.array_equal(second.read("Image_01L").mask[..., 0], vessel(1) // 255)


def test_the_split_of_chase_db1_keeps_both_eyes_of_a_child_together(tmp_path: Path) -> None:
    split = load_protocol("chase-20-8")
    assert [len(ids) for ids in split.ids.values()] == [16, 4, 8]
    assert sorted(split.ids["test"]) == CHASE_IDS[20:]
    assert chase_db1.protocol() == (PROTOCOLS / "chase-20-8.csv").read_text(encoding="utf-8")
    check(split, CHASEDB1(write_chase(tmp_path)))


def test_what_is_not_the_data_set_or_the_observer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not hold stare-images/ and labels-ah/"):
        STARE(tmp_path)
    with pytest.raises(InputError, match=r"holds neither Image_01L_1stHO\.png"):
        CHASEDB1(tmp_path)
    with pytest.raises(InputError, match="no observer of STARE named 'av'"):
        STARE(tmp_path, "av")
    with pytest.raises(InputError, match="no observer of CHASE_DB1 named '3rdHO'"):
        CHASEDB1(tmp_path, "3rdHO")
    write_chase(tmp_path)
    (tmp_path / "Image_02R_1stHO.png").unlink()
    with pytest.raises(InputError, match=r"Image_02R\.png has no mask .*1 of 28"):
        CHASEDB1(tmp_path)
