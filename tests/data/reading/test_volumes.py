"""NIfTI volumes: the canonical frame, the exact way back in the files that `predict` writes, and files that are damaged."""

import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_seg.data.reading.volumes import (
    read_grid,
    read_labels_volume,
    read_volume,
    to_canonical,
)
from lightning_seg.errors import InputError
from lightning_seg.inference._nifti import SliceFile, SliceReader

REAL = Path(os.environ.get("LIGHTNING_SEG_DATA", "/nowhere")) / "ct-example"
X, Y, Z = np.eye(3)
DIRECTIONS = {"R": X, "L": -X, "A": Y, "P": -Y, "S": Z, "I": -Z}
AXES = ["RAS", "LPS", "LAI", "PIR", "SLA", "AIL"]


def write(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    nibabel.Nifti1Image(array, affine).to_filename(path)
    return path


def affine_of(codes: str, spacing: tuple[float, ...], tilt: float = 0.0) -> np.ndarray:
    """Axes to ``codes`` (RAS+ world), turned by ``tilt`` radians about the body's axis."""
    affine = np.eye(4)
    for axis, code in enumerate(codes):
        affine[:3, axis] = DIRECTIONS[code]
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    affine = turn @ affine @ np.diag([*spacing, 1])
    affine[:3, 3] = 10.125, -20.5, 33.0
    return affine


def written(folder: Path, ct: Path, canonical: np.ndarray) -> Path:
    """Labels (slices, rows, columns) as `predict` writes them beside a CT."""
    file = SliceFile(folder / "labels.bin", SliceReader(ct, folder), np.uint8)
    for index, plane in enumerate(canonical):
        file[index] = plane
    file.save(folder / "labels.nii.gz")
    return folder / "labels.nii.gz"


@pytest.mark.parametrize("codes", AXES)
def test_slices_run_from_the_feet_and_show_the_patient_front_up(tmp_path: Path, codes: str) -> None:
    rng = np.random.default_rng(0)
    path = write(
        tmp_path / "a.nii.gz",
        rng.integers(-99, 99, (4, 5, 6)).astype(np.int16),
        affine_of(codes, (2, 3, 4)),
    )
    grid = read_grid(path)
    reference = SimpleITK.DICOMOrient(
        SimpleITK.ReadImage(str(path)), "LPS"
    )  # an independent implementation
    found = to_canonical(read_volume(path), grid.affine)
    assert np.array_equal(found, SimpleITK.GetArrayFromImage(reference))
    assert grid.canonical_shape == found.shape
    assert np.allclose(grid.canonical_spacing, reference.GetSpacing()[::-1])
    assert grid.orientation == codes


@given(
    codes=st.sampled_from(AXES),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    tilt=st.floats(-0.7, 0.7),
    seed=st.integers(0, 99),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_round_trip_keeps_affine_header_and_labels_bit_by_bit(
    tmp_path: Path,
    codes: str,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    tilt: float,
    seed: int,
) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    image = nibabel.Nifti1Image(labels.astype(np.int16) * 100 - 50, affine_of(codes, spacing, tilt))
    image.header["descrip"] = b"made by a test"
    image.to_filename(tmp_path / "ct.nii.gz")
    ct = nibabel.load(tmp_path / "ct.nii.gz")
    back = nibabel.load(written(tmp_path, tmp_path / "ct.nii.gz", to_canonical(labels, ct.affine)))
    assert np.array_equal(np.asanyarray(back.dataobj), labels)
    assert back.get_data_dtype() == np.uint8
    assert np.array_equal(back.affine, ct.affine)
    for field in (
        "pixdim",
        "qform_code",
        "sform_code",
        "srow_x",
        "quatern_b",
        "xyzt_units",
        "descrip",
    ):
        assert np.array_equal(back.header[field], ct.header[field]), field
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_a_scale_in_the_header_is_applied_and_not_handed_on_to_labels(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(2, -1000)
    image.to_filename(tmp_path / "ct.nii")
    raw = bytearray((tmp_path / "ct.nii").read_bytes())
    raw[112:120] = np.array(
        [2, -1000], "<f4"
    ).tobytes()  # scl_slope and scl_inter as a scanner writes them
    raw[352:] = np.arange(24, dtype="<i2").tobytes()
    (tmp_path / "ct.nii").write_bytes(raw)
    ct = read_volume(tmp_path / "ct.nii")
    assert np.array_equal(ct.ravel("F"), 2 * np.arange(24) - 1000)
    labels = written(tmp_path, tmp_path / "ct.nii", to_canonical(ct > -980, np.eye(4)))
    assert set(np.unique(read_labels_volume(labels))) == {0, 1}


def test_label_numbers_stay_whole_whatever_type_they_are_stored_in(tmp_path: Path) -> None:
    labels = np.random.default_rng(1).integers(0, 14, (3, 4, 5))
    for kind in (np.uint8, np.int16, np.float32, np.float64):
        path = write(tmp_path / "labels.nii.gz", labels.astype(kind), np.eye(4))
        found = read_labels_volume(path)
        assert found.dtype == np.uint8
        assert np.array_equal(found, labels)


@pytest.mark.parametrize("bad", [0.5, -1.0, 256.0])
def test_values_that_are_no_label_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    labels = np.zeros((3, 4, 5), np.float32)
    labels[1, 1, 1] = bad
    with pytest.raises(InputError, match=r"labels\.nii\.gz holds values .* no label numbers"):
        read_labels_volume(write(tmp_path / "labels.nii.gz", labels, np.eye(4)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[1, 2, 3] = value
    with pytest.raises(InputError, match=r"ct\.nii holds NaN or infinity in 1 of 60 voxels"):
        read_volume(write(tmp_path / "ct.nii", array, np.eye(4)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.4, 0.9])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(
        tmp_path / f"ct{suffix}",
        np.random.default_rng(0).integers(0, 999, (9, 9, 9)).astype(np.int16),
        np.eye(4),
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=rf"ct{suffix} .*again"):
        read_volume(path)


def test_what_is_no_volume_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.nii").write_text("hello " * 100)
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"hello " * 100))
    write(tmp_path / "film.nii", np.zeros((3, 3, 3, 4), np.int16), np.eye(4))
    write(tmp_path / "flat.nii", np.zeros((3, 3), np.int16), np.eye(4))
    for name in ("text.nii", "text.nii.gz"):
        with pytest.raises(InputError, match=f"{name} is no readable volume"):
            read_volume(tmp_path / name)
    for name in ("film.nii", "flat.nii"):
        with pytest.raises(InputError, match=f"{name} has the shape"):
            read_grid(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        read_volume(tmp_path / "absent.nii")
    assert read_volume(
        write(tmp_path / "one.nii", np.zeros((3, 4, 5, 1), np.int16), np.eye(4))
    ).shape == (3, 4, 5)


def test_an_affine_without_a_direction_is_refused(tmp_path: Path) -> None:
    affine = np.diag([1.0, 1.0, 0.0, 1.0])
    image = nibabel.Nifti1Image(np.zeros((3, 3, 3), np.int16), None)
    image.header.set_sform(affine, code=1)
    image.to_filename(tmp_path / "ct.nii")
    with pytest.raises(InputError, match="gives an axis no direction"):
        read_grid(tmp_path / "ct.nii")


@pytest.mark.parametrize(
    "name",
    [
        "lits-volume-0/volume-0.nii.gz",
        "ct-example/example_ct_sm.nii.gz",
        "ct-example/example_seg.nii.gz",
    ],
)
@pytest.mark.skipif(not REAL.is_dir(), reason="no folder $LIGHTNING_SEG_DATA/ct-example")
def test_real_scans_turn_and_come_back_exactly(tmp_path: Path, name: str) -> None:
    path, grid = REAL.parent / name, read_grid(REAL.parent / name)
    volume = read_volume(path)
    canonical = to_canonical(volume, grid.affine)
    reference = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
    assert np.array_equal(canonical, SimpleITK.GetArrayFromImage(reference))
    assert np.allclose(grid.canonical_spacing, reference.GetSpacing()[::-1], rtol=1e-5)
    labels = written(tmp_path, path, canonical > 100)
    back, first = (SimpleITK.ReadImage(str(each)) for each in (labels, path))
    assert np.array_equal(
        SimpleITK.GetArrayFromImage(back), SimpleITK.GetArrayFromImage(first) > 100
    )
    assert (back.GetOrigin(), back.GetSpacing(), back.GetDirection()) == (
        first.GetOrigin(),
        first.GetSpacing(),
        first.GetDirection(),
    )
    assert np.array_equal(nibabel.load(labels).affine, grid.affine)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("meter", 1000.0), ("micron", 0.001)])
def test_spacing_is_in_millimetres_whatever_the_unit(
    tmp_path: Path, unit: str, factor: float
) -> None:
    affine = affine_of("LPS", (0.5, 0.75, 3.0))
    affine[:3] /= factor
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii")
    grid = read_grid(tmp_path / "a.nii")
    assert grid.canonical_spacing == pytest.approx((3.0, 0.75, 0.5), rel=1e-5)
    assert grid.doubt == ""


@pytest.mark.parametrize("unit", ["unknown", "sec"])
def test_a_header_without_a_unit_of_length_is_said(tmp_path: Path, unit: str) -> None:
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine_of("LPS", (0.5, 0.75, 3.0)))
    image.header.set_xyzt_units(t=unit)
    image.to_filename(tmp_path / "a.nii")
    grid = read_grid(tmp_path / "a.nii")
    assert "does not say in which unit" in grid.doubt
    assert grid.canonical_spacing == pytest.approx((3.0, 0.75, 0.5))


def test_sides_that_no_voxel_has_are_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), affine_of("LPS", (900, 900, 5000))
    )
    with pytest.raises(InputError, match="its voxels have 5000 x 900 x 900 mm"):
        read_grid(path)


def test_shifted_slices_are_as_far_apart_as_their_planes(tmp_path: Path) -> None:
    affine = affine_of("LPS", (0.5, 0.75, 3.0))
    affine[1, 2] = 2.0  # each slice lies 2 mm further back than the one below
    grid = read_grid(write(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), affine))
    assert grid.canonical_spacing == pytest.approx((3.0, 0.75, 0.5))
    assert "shifted against each other" in grid.doubt


def test_a_header_without_an_orientation_or_with_two_is_said(tmp_path: Path) -> None:
    voxels = np.zeros((3, 4, 5), np.int16)
    grid = read_grid(write(tmp_path / "none.nii", voxels, None))
    assert "does not say where its axes run" in grid.doubt
    image = nibabel.Nifti1Image(voxels, affine_of("LPS", (2, 3, 4)))
    image.header.set_sform(affine_of("LPS", (2, 3, 4)), 1)
    image.header.set_qform(affine_of("RPS", (2, 3, 4)), 1)
    image.to_filename(tmp_path / "two.nii")
    assert "by sform and by qform" in read_grid(tmp_path / "two.nii").doubt
