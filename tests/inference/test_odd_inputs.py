"""One odd input never ends a folder, what was replaced is predicted again, and what is not a number is no mask."""

import csv
import gzip
import os
import shutil

import cv2
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

import lightning_seg as ls
from lightning_seg.errors import InputError
from lightning_seg.files.locks import locked
from lightning_seg.inference import _nifti
from lightning_seg.inference.inputs import find_inputs
from lightning_seg.inference.options import read_arguments
from lightning_seg.inference.results import LOCK
from lightning_seg.training.module import SegmentationModule
from tests.inference.conftest import not_finite, read, write_checkpoint
from tests.inference.test_predict_pictures import predict, table
from tests.inference.test_predict_volumes import body, save


def noise(seed, size=(40, 50, 3)):
    small = np.random.default_rng(seed).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(small, size[1::-1])


@pytest.mark.parametrize("when", [1_000_000_000, 2_000_000_000])
def test_a_replaced_picture_is_predicted_again_whatever_its_time(checkpoint, tmp_path, when):
    """As mv, cp -p, rsync -t and unzip leave it."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, seed in (("a", 1), ("b", 2)):
        cv2.imwrite(str(folder / f"{name}.png"), noise(seed))
    predict(checkpoint, folder, tmp_path / "out")
    kept = (tmp_path / "out/masks/b.png").stat().st_mtime_ns
    cv2.imwrite(str(folder / "a.png"), noise(3))
    os.utime(folder / "a.png", (when, when))
    predict(checkpoint, folder, tmp_path / "out")
    predict(checkpoint, folder, tmp_path / "fresh")
    for name in "ab":
        ours, fresh = (read(tmp_path / place / f"masks/{name}.png") for place in ("out", "fresh"))
        np.testing.assert_array_equal(ours, fresh)
    assert (tmp_path / "out/masks/b.png").stat().st_mtime_ns == kept
    assert table(tmp_path / "out") == table(tmp_path / "fresh") or {
        row["file"]: row for row in table(tmp_path / "out")
    } == {row["file"]: row for row in table(tmp_path / "fresh")}


def clip(path, seed, count=6):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for number in range(count):
        writer.write(noise(seed + number, (48, 64)))
    writer.release()


def test_a_replaced_video_is_predicted_again(checkpoint, tmp_path):
    path, listing = tmp_path / "clip.avi", tmp_path / "out" / "videos" / "clip.csv"
    clip(path, 0)
    predict(checkpoint, path, tmp_path / "out")
    before = listing.read_text()
    clip(path, 50)
    os.utime(path, (1e9, 1e9))
    predict(checkpoint, path, tmp_path / "out")
    assert listing.read_text() != before


def test_a_cut_video_says_what_it_lacks_again_and_again(checkpoint, tmp_path, capsys):
    path = tmp_path / "clip.avi"
    clip(path, 0, count=40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    for _ in range(2):
        with pytest.raises(SystemExit) as caught:
            predict(checkpoint, path, tmp_path / "out")
        assert caught.value.code == 1
        assert "says it has 40 frames, of which" in capsys.readouterr().err
    with (tmp_path / "out/videos/clip.csv").open() as file:
        frames = len(list(csv.DictReader(file)))
    assert 0 < frames < 40


def claim(path, shape, packed=b""):
    """A NIfTI header for a volume of ``shape``, and hardly any voxels."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header["dim"][:4] = [3, *shape]
    header["dim"][4:] = 1
    header["vox_offset"], header["magic"] = 352, b"n+1"
    content = header.binaryblock + bytes(4) + bytes(8000) + packed
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        file.write(content)


def test_odd_files_fail_alone_and_a_rerun_gets_past_them(tmp_path, capsys, monkeypatch):
    checkpoint = write_checkpoint(
        tmp_path / "ct.ckpt",
        dataset="lits",
        in_channels=3,
        classes=["liver"],
        dataset_options={"in_channels": 3},
    )
    folder = tmp_path / "in"
    folder.mkdir()
    reserved, reserve = [], os.posix_fallocate

    def recorded(file, start, size):
        reserved.append(size)
        reserve(file, start, size)

    monkeypatch.setattr(_nifti.os, "posix_fallocate", recorded)
    for name in ("huge.nii", "huge.nii.gz"):
        claim(folder / name, (32767, 32767, 32767))
    claim(folder / "large.nii.gz", (2000, 2000, 32000))
    claim(folder / "modest.nii.gz", (40, 30, 20))
    image = nibabel.Nifti1Image(body((8, 8, 3)), np.eye(4))
    image.header["srow_x"], image.header["sform_code"] = [np.nan, 0, 0, 0], 1
    image.header["quatern_b"], image.header["qform_code"] = np.nan, 1
    image.header["vox_offset"] = 352
    (folder / "nan.nii").write_bytes(
        image.header.binaryblock + bytes(4) + body((8, 8, 3)).tobytes()
    )
    (folder / b"caf\xe9.nii".decode(errors="surrogateescape")).write_bytes(b"no volume")
    save(folder / "small.nii", body((8, 8, 3)))
    save(folder / "z.nii", body((32, 32, 3)))
    for _ in range(2):
        with pytest.raises(SystemExit) as caught:
            predict(checkpoint, folder, tmp_path / "out")
        assert caught.value.code == 1
        said = capsys.readouterr()
        for words in (
            "huge.nii has 8352 bytes, but its header announces voxels for",
            "huge.nii.gz has",
            "large.nii.gz has",
            "modest.nii.gz cannot be decoded",
            "nan.nii has an affine that gives an axis no direction",
            "is no readable volume",
            "6 of 8 inputs could not be predicted",
        ):
            assert words in said.err
    assert "z.nii is done already" in said.out
    assert max(reserved) == 32 * 32 * 3
    assert (tmp_path / "out/masks/z.nii.gz").is_file()


def test_a_volume_that_does_not_fit_on_the_disk_fails_alone(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(_nifti.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"scan.nii needs 2\.0 GB in .* 0\.0 GB are free"):
        _nifti.check_room(tmp_path, 2 * 10**9, tmp_path / "scan.nii")


def test_a_folder_says_how_many_it_used_and_what_it_left(checkpoint, pictures, tmp_path, capsys):
    store = tmp_path / "store"
    store.mkdir()
    shutil.copy(pictures / "picture 1.png", store / "linked.png")
    (pictures / "patient2").symlink_to(store)
    (pictures / "loop").symlink_to(pictures)
    (pictures / "notes.txt").write_text("")
    (pictures / ".hidden.png").write_bytes(b"")
    (pictures / "gone.png").symlink_to(tmp_path / "nowhere")
    predict(checkpoint, pictures, tmp_path / "out")
    printed = capsys.readouterr().out
    assert (
        "inputs:   8 pictures; left aside: 1 .txt, 1 broken links or special files, 1 hidden"
        in printed
    )
    assert "patient2/linked.png" in {row["file"] for row in table(tmp_path / "out")}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_a_number_is_no_mask(pictures, tmp_path, capsys, value):
    checkpoint = not_finite(tmp_path / "a.ckpt", value)
    with pytest.raises(SystemExit) as caught:
        predict(checkpoint, pictures, tmp_path / "out", "--batch_size", "4")
    assert caught.value.code == 1
    errors = capsys.readouterr().err
    assert f"the network gives {'NaN' if value != value else 'infinity'}" in errors
    assert "7 of 7 inputs could not be predicted" in errors
    assert not list((tmp_path / "out").rglob("*.png"))
    with pytest.raises(InputError, match="instead of a prediction"):
        ls.load(checkpoint).predict(noise(0))
    clip(tmp_path / "clip.avi", 0)
    with pytest.raises(SystemExit):
        predict(checkpoint, tmp_path / "clip.avi", tmp_path / "video")
    assert not list((tmp_path / "video").rglob("*.avi"))
    with pytest.raises(SystemExit):
        predict(checkpoint, pictures / "picture 1.png", tmp_path / "tiles", "--tile", "32")
    ct = not_finite(tmp_path / "ct.ckpt", value, dataset="lits", in_channels=1, dataset_options={})
    save(tmp_path / "scan.nii", body((32, 32, 3)))
    with pytest.raises(SystemExit):
        predict(ct, tmp_path / "scan.nii", tmp_path / "volume")
    assert not list((tmp_path / "volume").rglob("*.nii.gz"))


def test_float16_that_overflows_is_no_mask(pictures, tmp_path, capsys):
    checkpoint = not_finite(tmp_path / "a.ckpt", 1e6)
    predict(checkpoint, pictures / "below", tmp_path / "fine")
    with pytest.raises(SystemExit):
        predict(checkpoint, pictures / "below", tmp_path / "out", "--precision", "16")
    assert "compute with --precision 32" in capsys.readouterr().err


def test_one_picture_that_overflows_fails_alone(
    checkpoint, pictures, tmp_path, monkeypatch, capsys
):
    from lightning_seg.models.frame.normalization import ImageNetwork

    forward = ImageNetwork.forward

    def broken(self, image):
        output = forward(self, image)
        bright = image.float().mean((1, 2, 3)) > 200
        output.logits[bright] = torch.nan
        return output

    monkeypatch.setattr(ImageNetwork, "forward", broken)
    Image.new("RGB", (30, 30), (255, 255, 255)).save(pictures / "picture 3b.png")
    with pytest.raises(SystemExit):
        predict(checkpoint, pictures, tmp_path / "out", "--batch_size", "8")
    assert "1 of 8 inputs could not be predicted" in capsys.readouterr().err
    assert len(table(tmp_path / "out")) == 7


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--input", "x"], "--input needs --output"),
        (["--input", "x", "--output", "y", "--split", "val"], "for the data set's own images"),
        (["--trainer.accelerator", "cpu"], "needs no trainer; give --devices cpu"),
        (["--outpt", "x"], "no option '--outpt'"),
        (["--window", "0", "9"], "--window is for volumes that --input names"),
        (["--data.size"], "no option '--data.size'"),
        (["--tile", "wide"], "--tile: invalid int value"),
    ],
)
def test_options_that_do_not_go_together_are_a_sentence(args, words):
    with pytest.raises(InputError, match=words):
        read_arguments(["--ckpt_path", "a.ckpt", *args])


def test_hyphens_and_data_options_are_read():
    given = read_arguments(
        ["--ckpt-path", "a", "--batch-size=3", "--data.size", "48", "--data.root=/x-y"]
    )
    assert given.ckpt_path == ["a"]
    assert given.batch_size == "3"
    assert given.data == {"size": 48, "root": "/x-y"}
    assert given.split == "test"


def test_two_dicom_series_or_missing_slices_are_refused(tmp_path):
    import SimpleITK

    from lightning_seg.data.reading.dicom import series_as_nifti

    def write(folder, uid, places):
        folder.mkdir(exist_ok=True)
        for number in places:
            image = SimpleITK.GetImageFromArray(body((5, 8, 8))[number % 5])
            for tag, value in {
                "0008|0060": "CT",
                "0020|000e": uid,
                "0020|0013": str(number),
                "0020|0032": f"0\\0\\{3.0 * number}",
                "0020|0037": "1\\0\\0\\0\\1\\0",
            }.items():
                image.SetMetaData(tag, value)
            writer = SimpleITK.ImageFileWriter()
            writer.KeepOriginalImageUIDOn()
            writer.SetFileName(str(folder / f"{uid}-{number}.dcm"))
            writer.Execute(image)

    write(tmp_path / "good", "1.2.3", range(8))
    assert series_as_nifti(tmp_path / "good", tmp_path).file.is_file()
    write(tmp_path / "lacking", "1.2.5", [0, 1, 2, 4, 5, 6, 7])
    with pytest.raises(
        InputError, match=r"7 slices 3\.00 mm apart, but 6\.00 mm between its slices 3"
    ):
        series_as_nifti(tmp_path / "lacking", tmp_path)
    write(tmp_path / "good", "1.2.4", range(3))
    with pytest.raises(InputError, match="holds 2 DICOM series"):
        series_as_nifti(tmp_path / "good", tmp_path)
    found = find_inputs(str(tmp_path))
    assert sorted(one.file for one in found.inputs if one.kind == "dicom") == ["good", "lacking"]


def test_what_killed_runs_left_is_removed_and_two_at_once_are_refused(
    checkpoint, pictures, tmp_path
):
    out = tmp_path / "out"
    predict(checkpoint, pictures, out)
    (out / ".volume-abc").mkdir()
    (out / ".volume-abc" / "mask0").write_bytes(b"x")
    left = [out / "masks" / ".a.png-0123.part", out / "videos" / ".part-0123.avi"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    predict(checkpoint, pictures, out)
    assert not (out / ".volume-abc").exists()
    assert not any(path.exists() for path in left)
    with locked(out / LOCK), pytest.raises(InputError, match="another process writes into"):
        predict(checkpoint, pictures, out)
    predict(checkpoint, pictures, out)


def dicom_slice(file, number, plane=None, spacing=(0.5, 0.5), fields=()):
    """Write one of equal slices 2 mm apart; fields: tag -> text in place of what is usual."""
    import SimpleITK

    file.parent.mkdir(exist_ok=True)
    plane = body((5, 8, 8))[number] if plane is None else plane
    image = SimpleITK.GetImageFromArray(plane, isVector=plane.ndim == 3)
    image.SetSpacing(spacing)
    usual = {
        "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
        "0008|0060": "CT",
        "0020|000e": "1.2.3",
        "0020|0013": str(number),
        "0020|0032": f"0\\0\\{2.0 * number}",
        "0020|0037": "1\\0\\0\\0\\1\\0",
    }
    for tag, value in (usual | dict(fields)).items():
        image.SetMetaData(tag, value)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(file))
    writer.Execute(image)


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ({"spacing": (0.7, 0.5)}, "PixelSpacing"),
        ({"fields": {"0020|0037": "0\\1\\0\\0\\0\\1"}}, "ImageOrientationPatient"),
        ({"plane": np.zeros((6, 8), np.int16)}, "has the Rows 6"),
        ({"plane": np.zeros((8, 8, 3), np.uint8)}, "has the SamplesPerPixel 3"),
    ],
)
def test_a_slice_of_another_kind_in_a_dicom_series_is_refused(tmp_path, odd, words):
    from lightning_seg.data.reading.dicom import series_as_nifti

    for number in range(5):
        more = odd if number == 2 else {}
        dicom_slice(tmp_path / "scan" / f"{number}.dcm", number, **more)
    with pytest.raises(InputError, match=words) as refused:
        series_as_nifti(tmp_path / "scan", tmp_path)
    assert "2.dcm" in str(refused.value)


def test_slices_are_scaled_each_by_its_own_header_or_refused(tmp_path):
    import nibabel

    from lightning_seg.data.reading.dicom import series_as_nifti

    plane = np.arange(64, dtype=np.int16).reshape(8, 8) * 10 - 300
    for number in range(4):  # the writer stores what the header turns into the plane
        scale = {"0028|1052": str(-1024 + 10 * number), "0028|1053": str(1 + number % 2)}
        dicom_slice(tmp_path / "ct" / f"{number}.dcm", number, plane, fields=scale)
    volume = nibabel.load(series_as_nifti(tmp_path / "ct", tmp_path).file)
    assert (np.asarray(volume.dataobj) == plane.T[..., None]).all()
    lost = tmp_path / "ct" / "2.dcm"
    lost.write_bytes(lost.read_bytes().replace(b"\x28\0\x52\x10", b"\x28\0\x58\x10", 1))
    with pytest.raises(InputError, match=r"2\.dcm has no RescaleIntercept.*1 of 4 lack it"):
        series_as_nifti(tmp_path / "ct", tmp_path)


def test_slices_that_are_shifted_or_without_a_place_are_refused(tmp_path):
    from lightning_seg.data.reading.dicom import series_as_nifti

    for number in range(4):
        leaning = {"0020|0032": f"{0.4 * number}\\0\\{2.0 * number}"}
        dicom_slice(tmp_path / "tilt" / f"{number}.dcm", number, fields=leaning)
        lost = tmp_path / "lost" / f"{number}.dcm"
        dicom_slice(lost, number)
        # the position under a number that no field has
        lost.write_bytes(lost.read_bytes().replace(b"\x20\0\x32\0", b"\x20\0\x33\0", 1))
    with pytest.raises(InputError, match=r"shifted against each other by 0\.40 mm"):
        series_as_nifti(tmp_path / "tilt", tmp_path)
    with pytest.raises(InputError, match="has no ImagePositionPatient"):
        series_as_nifti(tmp_path / "lost", tmp_path)


def test_one_dicom_slice_is_as_thick_as_it_says_and_another_modality_is_said(tmp_path):
    import nibabel

    from lightning_seg.data.reading.dicom import series_as_nifti

    dicom_slice(tmp_path / "thick" / "a.dcm", 0, fields={"0018|0050": "5"})
    thick = series_as_nifti(tmp_path / "thick", tmp_path)
    assert nibabel.load(thick.file).header.get_zooms() == pytest.approx((0.5, 0.5, 5))
    assert thick.doubt == ""
    dicom_slice(tmp_path / "thin" / "a.dcm", 0)
    assert "unknown thickness" in series_as_nifti(tmp_path / "thin", tmp_path).doubt
    dicom_slice(tmp_path / "mr" / "a.dcm", 0, fields={"0008|0060": "MR"})
    assert "modality MR, not CT" in series_as_nifti(tmp_path / "mr", tmp_path).doubt


def test_a_split_series_is_found_behind_any_file_and_a_part_of_one_by_its_numbers(tmp_path):
    from lightning_seg.data.reading.dicom import check_whole_series, series_as_nifti

    def numbered(number, uid="1.2.3"):
        return {"0020|0013": str(number), "0020|000e": uid, "0018|0050": "2"}

    for number in range(1, 5):  # numbers from 1, as scanners count
        folder = tmp_path / ("low" if number < 3 else "high")
        dicom_slice(folder / f"{number}.dcm", number, fields=numbered(number))
        dicom_slice(tmp_path / "whole" / f"{number}.dcm", number, fields=numbered(number, "1.2.5"))
    dicom_slice(tmp_path / "low" / "0.dcm", 0, fields=numbered(1, "1.2.4"))  # a scout stands first
    with pytest.raises(InputError, match="hold slices of one DICOM series"):
        check_whole_series([tmp_path / "low", tmp_path / "high"])
    check_whole_series([tmp_path / "whole", tmp_path / "high"])
    assert series_as_nifti(tmp_path / "whole", tmp_path).doubt == ""
    doubt = series_as_nifti(tmp_path / "high", tmp_path).doubt
    assert "no slice of the InstanceNumber 1 to 2" in doubt


def test_networks_of_unlike_windows_are_no_ensemble(tmp_path):
    """The pictures would be read by the window of the first."""
    files = [
        write_checkpoint(tmp_path / f"{name}.ckpt", "folder", dataset_options={"window": window})
        for name, window in (("a", [0, 100]), ("b", [0, 200]), ("c", None), ("d", [0, 100]))
    ]
    for other in files[1:3]:
        with pytest.raises(InputError, match=r"trained with window .*an ensemble needs the same"):
            ls.load([files[0], other])
    ls.load([files[0], files[3]])


def test_an_infinite_variance_of_a_batch_norm_is_no_mask(tmp_path):
    """It makes every logit a constant, which is a number."""
    file = write_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(file, weights_only=True)
    names = [name for name in content["state_dict"] if name.endswith("running_var")]
    content["state_dict"][names[0]].fill_(float("inf"))
    torch.save(content, file)
    with pytest.raises(InputError, match="has a variance that is infinite"):
        ls.load(file)
    with pytest.raises(InputError, match="has a variance that is infinite"):
        SegmentationModule.load(file)
