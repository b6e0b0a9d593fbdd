"""CVC-ClinicDB in both layouts, drawn small; its two protocols; and the real one where it is at hand."""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import load_protocol
from lightning_seg.data.sources import cvc_clinicdb
from lightning_seg.data.sources.cvc_clinicdb import CVCClinicDB
from lightning_seg.data.splits import PROTOCOLS, check
from lightning_seg.errors import InputError

LAYOUTS = {"png": ("images", "masks", "png"), "tif": ("Original", "Ground Truth", "tif")}
FRAMES = ("1", "10", "26", "612")


def write(folder: Path, layout: str, frames: tuple[str, ...] = FRAMES) -> Path:
    """Frames 24 x 32 with a rectangle whose rim is grey."""
    images, masks, suffix = LAYOUTS[layout]
    for frame in frames:
        mask = np.zeros((24, 32), np.uint8)
        mask[5:15, 8:20], mask[6:14, 9:19] = 60, 255
        image = np.full((24, 32, 3), len(frame) * 50, np.uint8)
        for part, pixels in {images: image, masks: mask}.items():
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / part / f"{frame}.{suffix}")
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sample_is_the_frame_and_its_mask_in_either_layout(layout: str, tmp_path: Path) -> None:
    source = CVCClinicDB(write(tmp_path, layout))
    assert source.ids == ["1", "10", "26", "612"]
    assert source.groups == {
        "1": "sequence 1",
        "10": "sequence 1",
        "26": "sequence 2",
        "612": "sequence 29",
    }
    image, mask, _ = source.read("612")
    assert image.shape == (24, 32, 3)
    assert mask.shape == (24, 32, 1)
    assert image.dtype == mask.dtype == np.uint8
    assert (image == 150).all()
    assert mask.sum() == 80
    assert CVCClinicDB(tmp_path, mask_threshold=0).read("612").mask.sum() == 120


def test_folder_parent_and_data_variable_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "CVC-ClinicDB", "tif")
    monkeypatch.setenv("LIGHTNING_SEG_DATA", str(tmp_path))
    assert CVCClinicDB(folder).ids == CVCClinicDB(tmp_path).ids == CVCClinicDB().ids == list(FRAMES)
    folder.rename(tmp_path / "cvc-clinicdb")
    assert CVCClinicDB().ids == list(FRAMES)


def test_what_is_not_the_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds neither images/ and masks/ nor Original/ and Ground Truth/"
    ):
        CVCClinicDB(tmp_path)
    with pytest.raises(InputError, match=r"613\.png is no frame of CVC-ClinicDB, 1 to 612"):
        CVCClinicDB(write(tmp_path, "png", ("612", "613")))
    with pytest.raises(InputError, match="mask_threshold is 300"):
        CVCClinicDB(tmp_path, 300)


def test_every_frame_has_one_of_29_sequences_and_these_are_runs_of_frames() -> None:
    table = cvc_clinicdb.sequences()
    assert list(table) == [str(frame) for frame in range(1, 613)]
    order = list(dict.fromkeys(table.values()))
    assert order == [f"sequence {number}" for number in range(1, 30)]
    assert list(table.values()) == sorted(table.values(), key=order.index)
    assert (min(Counter(table.values()).values()), max(Counter(table.values()).values())) == (6, 26)


@pytest.mark.parametrize(
    ("name", "sizes"), [("clinicdb-sequences", (491, 60, 61)), ("clinicdb-459-153", (413, 46, 153))]
)
def test_the_protocols_follow_by_their_rules(name: str, sizes: tuple[int, ...]) -> None:
    assert tuple(len(ids) for ids in load_protocol(name).ids.values()) == sizes
    assert cvc_clinicdb.protocol(name) == (PROTOCOLS / f"{name}.csv").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="did you mean 'clinicdb-sequences'"):
        cvc_clinicdb.protocol("clinicdb-sequence")


def test_no_sequence_is_divided_by_the_one_protocol_and_the_other_says_that_it_does() -> None:
    table = cvc_clinicdb.sequences()
    shared = {}
    for name in cvc_clinicdb.SHARES:
        homes = [{table[id] for id in ids} for ids in load_protocol(name).ids.values()]
        shared[name] = sum(
            sum(group in home for home in homes) > 1 for group in set(table.values())
        )
    assert shared["clinicdb-sequences"] == 0
    assert shared["clinicdb-459-153"] > 20
    leaky = load_protocol("clinicdb-459-153")
    assert leaky.leaks
    assert leaky.rule.startswith("LEAKS: ")
    assert not load_protocol("clinicdb-sequences").leaks


def test_the_leaky_protocol_passes_only_because_it_declares_its_leaks(tmp_path: Path) -> None:
    """No files are read: the source of all frames is described by its table."""
    source = CVCClinicDB(write(tmp_path / "data", "png"))
    source.groups = cvc_clinicdb.sequences()
    source.ids = list(source.groups)
    check(load_protocol("clinicdb-sequences"), source)
    check(load_protocol("clinicdb-459-153"), source)
    text = (PROTOCOLS / "clinicdb-459-153.csv").read_text(encoding="utf-8")
    silent = tmp_path / "silent.csv"
    silent.write_text(text.replace("# leaks: yes\n", ""))
    with pytest.raises(InputError, match=r"has the group 'sequence \d+' in both"):
        check(load_protocol(silent), source)


def real() -> CVCClinicDB:
    if "LIGHTNING_SEG_DATA" not in os.environ:
        pytest.skip("LIGHTNING_SEG_DATA is not set: the real CVC-ClinicDB is not at hand")
    return CVCClinicDB()


def test_the_real_data_set_is_whole_and_fits_its_protocols() -> None:
    source = real()
    assert len(source.ids) == 612
    for name in cvc_clinicdb.SHARES:
        check(load_protocol(name), source)
    samples = [source.read(id) for id in source.ids[::20]]
    assert {sample.image.shape + sample.mask.shape for sample in samples} == {
        (288, 384, 3, 288, 384, 1)
    }
    shares = [sample.mask.mean() for sample in samples]
    assert min(shares) > 0
    assert 0.05 < np.mean(shares) < 0.15


def test_the_table_of_sequences_is_the_owners() -> None:
    real()
    folder = next(
        path
        for name in cvc_clinicdb.CVCClinicDB.names
        if (path := Path(os.environ["LIGHTNING_SEG_DATA"]) / name).is_dir()
    )
    if not (folder / "README.txt").is_file():
        pytest.skip("this copy of CVC-ClinicDB has no README.txt of its owners")
    rows = re.findall(
        r"\|\s*(\d+) to\s+(\d+)\s*\|\s*(\d+)", (folder / "README.txt").read_text(encoding="latin-1")
    )
    owners = {
        str(frame): f"sequence {number}"
        for first, last, number in rows
        for frame in range(int(first), int(last) + 1)
    }
    assert owners == cvc_clinicdb.sequences()
