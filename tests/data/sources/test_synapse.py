"""Synapse in its owners' layout: 13 organs, of which TransUNet's 8, and TransUNet's split."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from lightning_seg.data import SegmentationDataModule, load_protocol
from lightning_seg.data.sources import synapse
from lightning_seg.data.sources.synapse import SCANS, TRANSUNET, Synapse
from lightning_seg.data.splits import PROTOCOLS
from lightning_seg.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def write(root: Path, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """HU and labels (slices, rows, columns), which are the same for all scans; the files run to LAS, as the owners'."""
    rng = np.random.default_rng(0)
    hu, labels = (
        rng.integers(-400, 500, (3, 8, 10)).astype(np.int16),
        rng.integers(0, 14, (3, 8, 10)).astype(np.uint8),
    )
    affine = np.diag([-0.7, 0.7, 3.0, 1.0])
    for part, values in (("img", hu), ("label", labels)):
        (root / "RawData" / "Training" / part).mkdir(parents=True, exist_ok=True)
        stored = values[:, ::-1].transpose(2, 1, 0)  # to LAS
        for name in names:
            nibabel.Nifti1Image(stored, affine).to_filename(
                root / "RawData" / "Training" / part / f"{part}{name}.nii.gz"
            )
    return hu, labels


def test_eight_of_thirteen_organs_are_those_of_transunet(tmp_path: Path) -> None:
    hu, labels = write(tmp_path / "Synapse", ("0001", "0040"))
    (tmp_path / "Synapse" / "RawData" / "Testing" / "img").mkdir(parents=True)
    (tmp_path / "Synapse" / "RawData" / "Testing" / "img" / "img0061.nii.gz").write_bytes(
        b"without labels"
    )
    source = Synapse(tmp_path)
    assert source.ids == ["0001", "0040"]
    image, mask, _ = source.read("0040/0001")
    assert np.array_equal(image[..., 0], np.rint(np.clip((hu[1] + 125.0) / 400, 0, 1) * 255))
    order = [8, 4, 3, 2, 6, 11, 1, 7]  # the label map of TransUNet's and DCA's code
    assert np.array_equal(mask, np.stack([labels[1] == number for number in order], axis=2))
    assert TRANSUNET[0] == "aorta"
    assert source.spacing("0001", None) == pytest.approx((3.0, 0.7, 0.7))
    store = source.store(source.expand("0001"), None, tmp_path / "cache")
    assert np.array_equal(store[1].mask, mask)
    liver = Synapse(tmp_path, classes=["pancreas", "liver"]).read("0001/0002").mask
    assert np.array_equal(liver, np.stack([labels[2] == 11, labels[2] == 6], axis=2))


def test_the_split_is_transunets(tmp_path: Path) -> None:
    split = load_protocol("synapse-18-12")
    assert synapse.protocol() == (PROTOCOLS / "synapse-18-12.csv").read_text(encoding="utf-8")
    assert [len(ids) for ids in split.ids.values()] == [16, 2, 12]
    assert sorted(id for ids in split.ids.values() for id in ids) == sorted(SCANS)
    assert set(split.ids["test"]) == {
        f"{n:04d}" for n in (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)
    }
    write(tmp_path, SCANS)
    data = SegmentationDataModule("synapse", str(tmp_path), size=8, batch_size=2, num_workers=0)
    assert (data.in_channels, len(data.classes), len(data.ids("test"))) == (1, 8, 36)
    data.setup("test")
    assert next(iter(data.test_dataloader()))["mask"].shape == (2, 8, 8, 8)


def test_what_is_not_synapse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"given after registration and holds img/img0001\.nii\.gz"
    ):
        Synapse(tmp_path)
    write(tmp_path, ("0005", "0006"))
    path = tmp_path / "RawData" / "Training" / "label" / "label0006.nii.gz"
    image = nibabel.load(path)
    values = np.asanyarray(image.dataobj).copy()
    values[0, 0, 0] = 14
    nibabel.Nifti1Image(values, image.affine).to_filename(path)
    source = Synapse(tmp_path)
    with pytest.raises(
        InputError, match=r"label0006\.nii\.gz holds the label 14, but they end at 13"
    ):
        source.read("0006/0000")
    path.rename(tmp_path / "label0005.nii.gz")
    with pytest.raises(InputError, match="bear one name"):
        Synapse(tmp_path)
    (tmp_path / "label0005.nii.gz").unlink()
    with pytest.raises(InputError, match=r"img0006\.nii\.gz has no label0006\.nii"):
        Synapse(tmp_path)
