"""`lightning-seg predict --input` on CT volumes, against whole arrays in nibabel, SimpleITK and torch."""

import csv
import gzip
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from lightning_seg.data.sources.lits import LiTS
from lightning_seg.errors import InputError
from lightning_seg.inference import volume
from lightning_seg.inference.__main__ import main
from lightning_seg.inference._nifti import SliceReader
from lightning_seg.inference.ensemble import Trained, load_ensemble
from lightning_seg.inference.options import PredictOptions
from lightning_seg.inference.volume import view_of
from lightning_seg.inference.workers import Workers
from lightning_seg.training.module import SegmentationModule
from tests.inference.conftest import write_checkpoint

LAI = np.array([[-0.7, 0, 0, 30], [0, 0.9, 0, -20], [0, 0, -2.5, 10], [0, 0, 0, 1.0]])
SAGITTAL = np.array([[0, 0, 2.0, 3], [0.8, 0, 0, 1], [0, -0.6, 0, 7], [0, 0, 0, 1.0]])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [20, -15, 100], degrees=True).as_matrix() * (
    0.7,
    0.9,
    3.0,
)


def body(shape, smooth=2.0):
    """Smooth HU from -400 to 400."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), smooth)
    return np.rint(noise / abs(noise).max() * 400).astype(np.int16)


def save(path, array, affine=LAI, **header):
    image = nibabel.Nifti1Image(array, affine)
    for key, value in header.items():
        image.header[key] = value
    nibabel.save(image, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of liver and tumour in slices with their neighbours, at 32 pixels."""
    file = tmp_path_factory.mktemp("checkpoint") / "ct.ckpt"
    return write_checkpoint(
        file,
        dataset="lits",
        in_channels=3,
        classes=["liver", "tumor"],
        dataset_options={"in_channels": 3},
    )


def predict(checkpoint, source, output, *options):
    main(
        [
            "--ckpt_path",
            str(checkpoint),
            "--input",
            str(source),
            "--output",
            str(output),
            "--devices",
            "cpu",
            *options,
        ]
    )


def table(output):
    with (output / "volumes.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def plain(checkpoint, path):
    """Probabilities (2, I, J, K) by a loop over all of the array, turned by nibabel alone."""
    image = nibabel.load(path)
    canonical = nibabel.as_closest_canonical(image)
    hu = np.clip(canonical.get_fdata()[::-1, ::-1], -200, 250)  # (left, back, head)
    grey = np.rint((hu + 200) * 255 / 450).astype(np.uint8).transpose(2, 1, 0)
    tensor = torch.from_numpy(np.ascontiguousarray(grey))
    neighbours = torch.stack(
        [tensor[[0, *range(len(tensor) - 1)]], tensor, tensor[[*range(1, len(tensor)), -1]]], 1
    )
    module = SegmentationModule.load(checkpoint)
    with torch.inference_mode():
        found = module(neighbours).logits.sigmoid()
    ras = found.numpy().transpose(1, 3, 2, 0)[:, ::-1, ::-1]
    back = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.io_orientation(image.affine)
    )
    return np.stack([nibabel.orientations.apply_orientation(one, back) for one in ras])


@pytest.mark.parametrize("affine", [LAI, SAGITTAL, OBLIQUE], ids=["LAI", "sagittal", "oblique"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_masks_are_those_of_the_whole_array_with_its_affine_and_header(
    checkpoint, tmp_path, affine, suffix
):
    shape = (11, 32, 32) if affine is SAGITTAL else (32, 32, 11)
    if affine is SAGITTAL:
        shape = (32, 11, 32)  # the second axis runs along the body
    path = save(tmp_path / f"scan{suffix}", body(shape), affine, xyzt_units=2, descrip=b"a scan")
    predict(checkpoint, path, tmp_path / "out", "--probabilities")
    expected, source = plain(checkpoint, path), nibabel.load(path)
    for k, label in enumerate(("liver", "tumor")):
        found = nibabel.load(tmp_path / "out" / "masks" / f"scan_{label}.nii.gz")
        maps = nibabel.load(tmp_path / "out" / "probabilities" / f"scan_{label}.nii.gz").get_fdata()
        np.testing.assert_array_equal(found.affine, source.affine)
        for key in ("pixdim", "qform_code", "sform_code", "xyzt_units", "descrip"):
            np.testing.assert_array_equal(found.header[key], source.header[key])
        assert found.get_data_dtype() == np.uint8
        np.testing.assert_allclose(maps, expected[k], atol=1e-5)
        sure = abs(expected[k] - 0.5) > 1e-4
        np.testing.assert_array_equal(np.asarray(found.dataobj)[sure], (expected[k] > 0.5)[sure])
        ours, theirs = (
            SimpleITK.ReadImage(str(f))
            for f in (tmp_path / "out" / "masks" / f"scan_{label}.nii.gz", path)
        )
        assert ours.GetSize() == theirs.GetSize()
        assert ours.GetDirection() == pytest.approx(theirs.GetDirection())
        assert ours.GetOrigin() == pytest.approx(theirs.GetOrigin())
        assert 0.02 < expected[k].mean() < 0.98


def test_the_table_gives_voxels_millilitres_and_parts(checkpoint, tmp_path):
    predict(checkpoint, save(tmp_path / "scan.nii", body((32, 32, 9))), tmp_path / "out")
    for row in table(tmp_path / "out"):
        mask = np.asarray(
            nibabel.load(tmp_path / "out" / "masks" / f"scan_{row['class']}.nii.gz").dataobj
        )
        assert (row["slices"], row["rows"], row["columns"]) == ("9", "32", "32")
        assert int(row["voxels"]) == mask.sum() > 0
        assert float(row["ml"]) == pytest.approx(mask.sum() * 0.7 * 0.9 * 2.5 / 1000, abs=1e-3)
        assert int(row["components"]) == ndimage.label(mask, np.ones((3, 3, 3)))[1]
        assert 0.5 < float(row["confidence"]) < 1


def test_post_processing_sees_the_volume_as_one(checkpoint, tmp_path):
    path = save(tmp_path / "scan.nii", body((32, 32, 9), smooth=0.7))
    predict(checkpoint, path, tmp_path / "plain")
    predict(checkpoint, path, tmp_path / "largest", "--postprocess", "tumor:keep_largest")
    before, after = (
        np.asarray(nibabel.load(tmp_path / name / "masks" / "scan_tumor.nii.gz").dataobj)
        for name in ("plain", "largest")
    )
    labels, count = ndimage.label(before, np.ones((3, 3, 3)))
    assert count > 1
    np.testing.assert_array_equal(after, labels == 1 + np.bincount(labels.ravel())[1:].argmax())


@pytest.mark.parametrize(
    "options",
    [
        {"in_channels": 5},
        {"in_channels": 3, "spacing": [2, 1.1, 1.3], "pad": 40},
        {"in_channels": 1, "spacing": [4.0, 0.7, 0.9]},
    ],
    ids=["2.5-D", "spacing and padding", "fewer slices"],
)
def test_the_network_sees_the_slices_that_it_was_trained_on(tmp_path, options):
    save(tmp_path / "volume-0.nii", body((30, 34, 9)))
    save(tmp_path / "segmentation-0.nii", np.zeros((30, 34, 9), np.uint8))
    source = LiTS(tmp_path, **options)
    view = view_of(Trained(("liver",), options["in_channels"], 32, "lits", options))
    reader = SliceReader(tmp_path / "volume-0.nii", tmp_path)
    found = list(
        volume._slice_pictures(reader, volume._resampled(reader, view.settings.spacing), view)
    )
    slices = source.expand("volume-0")
    assert len(found) == len(slices) > 1
    for picture, id in zip(found, slices, strict=True):
        np.testing.assert_array_equal(picture, source.read(id).image)


def test_resampled_slices_go_back_to_the_voxels_of_the_file(tmp_path):
    """A network that marks what is bright marks it in the file's own voxels, to within the smoothing of the resampling."""
    options = {"in_channels": 1, "spacing": [1.0, 1.0, 1.0], "pad": 64}
    file = write_checkpoint(
        tmp_path / "ct.ckpt", dataset="lits", size=64, in_channels=1, dataset_options=options
    )
    bright = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(40, 36, 12)), 4) > 0
    path = save(tmp_path / "scan.nii", np.where(bright, 200, -150).astype(np.int16))
    network = load_ensemble([file])
    network.probabilities = lambda image: image.float() / 255
    workers = Workers(network, [network.device])
    reader = SliceReader(path, tmp_path)
    found = list(
        volume._slice_probabilities(reader, workers, view_of(network.trained), PredictOptions())
    )
    planes = [volume.resized(one, reader.grid.canonical_shape[1:])[0] > 0.5 for one in found]
    expected = np.stack([reader[index] > 0 for index in range(len(reader))])
    assert (np.stack(planes) != expected).mean() < 0.03


def test_pictures_of_slices_bring_their_window_and_their_turn(tmp_path):
    file = write_checkpoint(
        tmp_path / "ct.ckpt", dataset="lits_2d", in_channels=1, classes=["liver"]
    )
    network = load_ensemble([file])
    view = view_of(network.trained)
    assert view.settings.window == (0, 255)
    hu = np.zeros((32, 32, 2), np.int16)
    hu[3, 20] = 200
    reader = SliceReader(save(tmp_path / "scan.nii", hu), tmp_path)
    pictures = list(volume._slice_pictures(reader, (2, 32, 32), view))
    np.testing.assert_array_equal(pictures[0][..., 0], np.rot90(reader[0]))
    network.probabilities = lambda image: image.float() / 255
    workers = Workers(network, [network.device])
    found = list(volume._slice_probabilities(reader, workers, view, PredictOptions()))
    np.testing.assert_allclose(found[1][0] * 255, reader[1], atol=1e-3)


def test_a_network_of_other_pictures_needs_a_window(tmp_path):
    file = write_checkpoint(
        tmp_path / "ct.ckpt", dataset="phantom_ct", in_channels=1, classes=["liver"]
    )
    path = save(tmp_path / "scan.nii", body((32, 32, 3)))
    with pytest.raises(InputError, match="whose window is not known; give --window"):
        predict(file, path, tmp_path / "out")
    predict(file, path, tmp_path / "out", "--window", "-100", "200")
    assert table(tmp_path / "out")[0]["slices"] == "3"


def test_memory_does_not_grow_with_the_number_of_slices(checkpoint, tmp_path):
    peaks = []
    for count in (
        3,
        64,
        160,
    ):  # the first warms up; 64 are some batches, as many as there are at once
        path = save(tmp_path / f"scan{count}.nii.gz", body((96, 96, count)))
        tracemalloc.start()
        predict(checkpoint, path, tmp_path / f"out{count}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 96 * 96 * 96 / 4  # bytes: a quarter of one a voxel


def test_damaged_volumes_are_told_at_the_end_and_the_rest_is_done(checkpoint, tmp_path, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    good = save(folder / "good.nii.gz", body((32, 32, 4)))
    packed = good.read_bytes()
    (folder / "cut.nii.gz").write_bytes(packed[: len(packed) // 2])
    (folder / "text.nii").write_text("no volume")
    holed = body((32, 32, 4)).astype(np.float32)
    holed[3, 4, 2] = np.nan
    save(folder / "holed.nii", holed)
    whole = save(folder / "short.nii", body((32, 32, 4))).read_bytes()
    (folder / "short.nii").write_bytes(whole[:-3000])
    save(folder / "time.nii", np.zeros((8, 8, 4, 3), np.int16))
    with pytest.raises(SystemExit) as caught:
        predict(checkpoint, folder, tmp_path / "out")
    assert caught.value.code == 1
    errors = capsys.readouterr().err
    for words in (
        "cut.nii.gz cannot be decoded",
        "text.nii is no readable volume",
        "holed.nii holds NaN or infinity in slice",
        "bytes, but its header announces voxels for",
        "time.nii has the shape (8, 8, 4, 3)",
        "5 of 6 inputs could not be predicted",
    ):
        assert words in errors
    assert {row["file"] for row in table(tmp_path / "out")} == {"good.nii.gz"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "inputs.csv",
        "masks",
        "settings.json",
        "volumes.csv",
    }


def test_a_volume_that_is_done_is_skipped(checkpoint, tmp_path, capsys):
    path = save(tmp_path / "scan.nii", body((32, 32, 3)))
    predict(checkpoint, path, tmp_path / "out")
    predict(checkpoint, path, tmp_path / "out")
    assert "scan.nii is done already" in capsys.readouterr().out
    assert len(table(tmp_path / "out")) == 2


def test_options_that_do_nothing_for_an_input_are_said(checkpoint, tmp_path, capsys):
    path = save(tmp_path / "scan.nii", body((32, 32, 3)))
    predict(checkpoint, path, tmp_path / "out", "--coco", "--probabilities")
    assert capsys.readouterr().err.count("does nothing") == 1
    assert not (tmp_path / "out" / "coco.json").exists()
    predict(checkpoint, path, tmp_path / "other", "--dicom_seg")
    assert "note: --dicom_seg does nothing for 1 volume" in capsys.readouterr().err
    assert not (tmp_path / "other" / "dicom_seg").exists()
    with pytest.raises(InputError, match="--dicom_seg is for DICOM series that --input names"):
        main(["--ckpt_path", str(checkpoint), "--dicom_seg"])


def test_masks_of_volumes_are_at_their_voxels(checkpoint, tmp_path):
    path = save(tmp_path / "scan.nii", body((32, 32, 3)))
    with pytest.raises(InputError, match="leave out --masks_at network"):
        predict(checkpoint, path, tmp_path / "out", "--masks_at", "network")


def write_series(hu, *folders):
    """A DICOM series, its slices in turn into the folders."""
    for number, plane in enumerate(hu):
        image = SimpleITK.GetImageFromArray(plane)
        image.SetSpacing((0.7, 0.9))
        for tag, value in {
            "0008|0060": "CT",
            "0020|000e": "1.2.3.4",
            "0020|0013": str(number),
            "0020|0032": f"10\\20\\{2.5 * number}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0018|0050": "2.5",
        }.items():
            image.SetMetaData(tag, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        folder = folders[number % len(folders)]
        folder.mkdir(parents=True, exist_ok=True)
        writer.SetFileName(str(folder / f"{number}.dcm"))
        writer.Execute(image)


def test_a_series_in_two_folders_is_refused_and_half_of_one_is_doubted(
    checkpoint, tmp_path, capsys
):
    halves = tmp_path / "ct" / "a", tmp_path / "ct" / "b"
    write_series(body((6, 32, 32)), *halves)
    with pytest.raises(InputError, match=r"a and .*b hold slices of one DICOM series .*1\.2\.3\.4"):
        predict(checkpoint, tmp_path / "ct", tmp_path / "out")
    predict(checkpoint, halves[0], tmp_path / "half")
    assert "slices of 2.5 mm that lie 5 mm apart" in capsys.readouterr().err


def test_a_dicom_series_is_predicted_like_its_nifti(checkpoint, tmp_path):
    series = tmp_path / "series"
    hu = body((5, 32, 32))
    write_series(hu, series)
    nifti = SimpleITK.GetImageFromArray(hu)
    nifti.SetSpacing((0.7, 0.9, 2.5))
    nifti.SetOrigin((10, 20, 0))
    SimpleITK.WriteImage(nifti, str(tmp_path / "scan.nii"))
    predict(checkpoint, series, tmp_path / "dicom")
    predict(checkpoint, tmp_path / "scan.nii", tmp_path / "nifti")
    one = SimpleITK.ReadImage(str(tmp_path / "dicom" / "masks" / "series_liver.nii.gz"))
    other = SimpleITK.ReadImage(str(tmp_path / "nifti" / "masks" / "scan_liver.nii.gz"))
    np.testing.assert_array_equal(
        SimpleITK.GetArrayFromImage(one), SimpleITK.GetArrayFromImage(other)
    )
    assert one.GetOrigin() == pytest.approx((10, 20, 0))
    assert one.GetSpacing() == pytest.approx((0.7, 0.9, 2.5))


def test_unpacking_needs_no_memory_of_the_size_of_the_file(tmp_path):
    path = tmp_path / "scan.nii.gz"
    with gzip.open(path, "wb") as file:
        file.write(nibabel.Nifti1Image(np.zeros((256, 256, 60), np.int16), LAI).to_bytes())
    tracemalloc.start()
    reader = SliceReader(path, tmp_path)
    assert reader[0].shape == (256, 256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 256 * 256 * 60  # half of its bytes


def test_a_network_of_colours_sees_a_slice_as_a_grey_picture(tmp_path: Path) -> None:
    """Three neighbouring slices are no red, green and blue."""
    view = view_of(Trained(("polyp",), 3, 32, "kvasir_seg", {}, "RGB"), (-200, 250))
    scan = save(tmp_path / "ct.nii", body((16, 12, 5)))
    pictures = list(volume._slice_pictures(SliceReader(scan, tmp_path), (5, 12, 16), view))
    assert len(pictures) == 5
    for picture in pictures:
        assert picture.shape == (12, 16, 3)
        assert np.ptp(picture, axis=2).max() == 0 < np.ptp(picture)
    of_slices = view._replace(coloured=False)
    [first, *_] = volume._slice_pictures(SliceReader(scan, tmp_path), (5, 12, 16), of_slices)
    assert np.ptp(first, axis=2).max() > 0
