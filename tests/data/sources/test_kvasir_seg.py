"""Kvasir-SEG in the owners' layout, from a folder, its parent or the archive; and the real one where it is at hand."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import fetch
from lightning_seg.data.datamodule import SegmentationDataModule
from lightning_seg.data.sources import kvasir_seg
from lightning_seg.data.sources.base.origins import Archive
from lightning_seg.data.sources.kvasir_seg import KvasirSEG
from lightning_seg.data.splits import check, load_protocol
from lightning_seg.errors import InputError

MakeKvasir = Callable[..., Path]


@pytest.fixture
def folder(make_kvasir: MakeKvasir, tmp_path: Path) -> Path:
    return make_kvasir(tmp_path)


@pytest.fixture
def archive(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """kvasir-seg.zip of four frames, which count as the owners' for this test."""
    monkeypatch.setattr(kvasir_seg, "COUNT", 4)
    monkeypatch.setattr(kvasir_seg, "FINGERPRINT", kvasir_seg.fingerprint(folder))
    home = tmp_path / "zipped"
    home.mkdir()
    made = Path(shutil.make_archive(str(home / "kvasir-seg"), "zip", tmp_path, "Kvasir-SEG"))
    shutil.rmtree(folder)
    return made


def test_a_sample_is_the_frame_and_its_mask_in_their_own_size(folder: Path) -> None:
    source = KvasirSEG(folder)
    assert source.ids == ["a", "b", "c", "d"]
    assert source.groups == {id: id for id in source.ids}
    image, mask, _ = source.read("b")
    assert image.shape == (64, 80, 3)
    assert mask.shape == (64, 80, 1)
    assert image.dtype == mask.dtype == np.uint8
    inside = mask[..., 0] == 1
    assert 0.15 < inside.mean() < 0.35
    assert image[inside].mean() > image[~inside].mean() + 40


def test_the_threshold_cuts_the_grey_rim_that_jpeg_leaves(folder: Path) -> None:
    strict, loose = (KvasirSEG(folder, threshold).read("a").mask.sum() for threshold in (127, 0))
    with Image.open(folder / "masks" / "a.jpg") as mask:
        grey = np.asarray(mask)
    assert (strict, loose) == ((grey > 127).sum(), (grey > 0).sum())
    assert strict < loose
    with pytest.raises(InputError, match="mask_threshold is 255"):
        KvasirSEG(folder, 255)


def test_folder_and_parent_are_accepted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert KvasirSEG(folder).folder == KvasirSEG(folder.parent).folder == folder
    monkeypatch.setenv("LIGHTNING_SEG_DATA", str(folder.parent))
    assert KvasirSEG().folder == folder
    folder.rename(folder.parent / "kvasir-seg")
    assert KvasirSEG().folder == folder.parent / "kvasir-seg"


def test_the_archive_is_extracted_once_beside_itself(archive: Path) -> None:
    source = KvasirSEG(archive)
    assert source.folder == archive.parent / "Kvasir-SEG"
    assert len(source.ids) == 4
    archive.write_bytes(b"")  # not opened again
    assert KvasirSEG(archive).ids == KvasirSEG(archive.parent).ids == source.ids


def test_the_folder_that_holds_the_archive_is_accepted(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_SEG_DATA", str(archive.parent))
    assert KvasirSEG().folder == archive.parent / "Kvasir-SEG"


def test_an_archive_with_another_content_is_refused(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kvasir_seg, "FINGERPRINT", "0" * 64)
    with pytest.raises(InputError, match=r"fingerprint .* instead of 000000000000"):
        KvasirSEG(archive)
    monkeypatch.setattr(kvasir_seg, "COUNT", 1000)
    with pytest.raises(InputError, match="images holds 4 pictures instead of 1000"):
        KvasirSEG(archive)
    assert [path.name for path in archive.parent.iterdir()] == ["kvasir-seg.zip"]


def test_a_place_without_the_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds neither images/ and masks/ nor kvasir-seg\.zip"):
        KvasirSEG(tmp_path)


def test_a_frame_without_its_mask_is_named(folder: Path) -> None:
    (folder / "masks" / "c.jpg").unlink()
    with pytest.raises(InputError, match=r"c\.jpg has no mask"):
        KvasirSEG(folder)


def test_a_damaged_frame_is_named_when_the_data_are_loaded(
    make_kvasir: MakeKvasir, tmp_path: Path
) -> None:
    folder = make_kvasir(tmp_path, ("a", "b", "c"))
    damaged = folder / "images" / "b.jpg"
    damaged.write_bytes(damaged.read_bytes()[:300])
    protocol = tmp_path / "mine.csv"
    protocol.write_text("id,split\na,train\nb,val\nc,test\n")
    module = SegmentationDataModule("kvasir_seg", str(folder), str(protocol), size=32)
    with pytest.raises(InputError, match=r"b\.jpg cannot be decoded"):
        module.setup("fit")


def test_known_duplicates_form_groups(make_kvasir: MakeKvasir, tmp_path: Path) -> None:
    pair = ("cju886ryxnsl50801r93jai7q", "cju8amfdtqi4x09871tygrgqe")
    source = KvasirSEG(make_kvasir(tmp_path, (*pair, "other")))
    assert source.groups == {pair[0]: pair[0], pair[1]: pair[0], "other": "other"}


def test_fetch_downloads_extracts_and_does_neither_twice(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = replace(KvasirSEG.origin, archives=(Archive(archive.as_uri()),))
    monkeypatch.setattr(KvasirSEG, "origin", here)
    root = tmp_path / "root"
    assert fetch("kvasir_seg", root, progress=False) == root / "Kvasir-SEG"
    assert len(KvasirSEG(root).ids) == 4
    archive.unlink()
    assert fetch("kvasir_seg", root, progress=False) == root / "Kvasir-SEG"


def real() -> KvasirSEG:
    if "LIGHTNING_SEG_DATA" not in os.environ:
        pytest.skip("LIGHTNING_SEG_DATA is not set: the real Kvasir-SEG is not at hand")
    return KvasirSEG()


def test_the_real_data_set_is_the_owners_and_fits_its_protocols() -> None:
    source = real()
    kvasir_seg.verify(source.folder)
    assert len(set(source.groups.values())) == 959
    for name in kvasir_seg.SHARES:
        check(load_protocol(name), source)


def test_the_real_frames_are_read_whole() -> None:
    source = real()
    shares = [source.read(id).mask.mean() for id in source.ids[::50]]
    assert 0.05 < np.mean(shares) < 0.3
    assert min(shares) > 0


def test_the_real_data_set_trains_and_tests_under_unet_a() -> None:
    real()
    module = SegmentationDataModule(
        "kvasir_seg", size=64, batch_size=64, copies=6, online=False, num_workers=0
    )
    module.setup("fit")
    assert len(module.train_dataloader()) == 75
    assert len(module.val_dataloader().dataset) == 100
