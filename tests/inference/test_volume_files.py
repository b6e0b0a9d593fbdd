"""What `predict` writes of volumes besides NIfTI: DICOM-SEG, read back by highdicom, and overlays,
pixel by pixel."""

import sys

import cv2
import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK

from lightning_seg.errors import InputError
from lightning_seg.inference import volume_files
from lightning_seg.inference._nifti import SliceFile, SliceReader
from lightning_seg.inference.pictures import GAP, TITLE
from lightning_seg.inference.volume_files import chosen_slices, write_sheet_of_slices
from tests.inference.conftest import write_checkpoint
from tests.inference.test_predict_volumes import body, predict

ROOT = "1.2.826.0.1.3680043.2.1125"
CT = "1.2.840.10008.5.1.4.1.1.2"
# files lie from head to feet, and rows run to the right and back
ACROSS = [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of two classes, which may overlap."""
    file = tmp_path_factory.mktemp("checkpoint") / "ct.ckpt"
    return write_checkpoint(
        file,
        dataset="lits",
        classes=["liver", "tumor"],
        in_channels=3,
        dataset_options={"in_channels": 3},
    )


def write_series(folder, hu, lacking=()):
    """A CT series as a scanner writes it, its names in no order."""
    folder.mkdir(parents=True)
    for number, plane in enumerate(hu):
        image = SimpleITK.GetImageFromArray(plane)
        image.SetSpacing((0.7, 0.9))
        tags = {
            "0008|0016": CT,
            "0008|0018": f"{ROOT}.7.{number + 1}",
            "0008|0020": "20240102",
            "0008|0030": "101112",
            "0008|0050": "",
            "0008|0060": "CT",
            "0010|0010": "Doe^Jane",
            "0010|0020": "P7",
            "0010|0030": "",
            "0010|0040": "F",
            "0018|0050": "2.5",
            "0018|0088": "1",  # as of scanners that mean something else by it
            "0020|000d": f"{ROOT}.5",
            "0020|000e": f"{ROOT}.6",
            "0020|0010": "S1",
            "0020|0011": "3",
            "0020|0013": str(number + 1),
            "0020|0032": f"10\\-20\\{100 - 2.5 * number}",
            "0020|0037": "\\".join(map(str, ACROSS)),
            "0020|0052": f"{ROOT}.9",
            "0028|1052": "0",
            "0028|1053": "1",
        }
        for tag in tags.keys() - set(lacking):
            image.SetMetaData(tag, tags[tag])
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{(number * 5) % 7}.dcm"))
        writer.Execute(image)
    return folder


def masks_of(output, name):
    """(slices, rows, columns) of a mask, in the frame of the series as it lies in space."""
    return SimpleITK.ReadImage(str(output / "masks" / f"{name}.nii.gz"))


def test_a_dicom_seg_holds_the_masks_where_they_lie(checkpoint, tmp_path):
    series = write_series(tmp_path / "series", body((7, 32, 24)))
    predict(checkpoint, series, tmp_path / "out", "--dicom_seg")
    file = tmp_path / "out" / "dicom_seg" / "series.dcm"
    found = highdicom.seg.segread(file)
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert (found.PatientID, found.StudyInstanceUID) == ("P7", f"{ROOT}.5")
    assert found.FrameOfReferenceUID == f"{ROOT}.9"
    assert found.SeriesInstanceUID != f"{ROOT}.6"
    labels = [segment.segment_label for segment in found.SegmentSequence]
    assert labels == ["liver", "tumor"]
    [referenced] = found.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == f"{ROOT}.6"
    sources = {pydicom.dcmread(path).SOPInstanceUID: path for path in series.iterdir()}
    referred = {one.ReferencedSOPInstanceUID for one in referenced.ReferencedInstanceSequence}
    assert referred <= set(sources)
    for number, name in enumerate(labels, start=1):
        nifti = masks_of(tmp_path / "out", f"series_{name}")
        expected = SimpleITK.GetArrayFromImage(nifti)
        assert 0 < expected.sum() < expected.size
        part = found.get_volume(segment_numbers=[number], combine_segments=False)
        inside = np.argwhere(part.array[..., 0] > 0)
        # each voxel of one lies on a voxel of the other, by the places of each file's own header
        places = part.map_indices_to_reference(inside)
        indices = [nifti.TransformPhysicalPointToIndex(place) for place in places.tolist()]
        at = nifti.TransformIndexToPhysicalPoint(indices[0])
        assert at == pytest.approx(places[0], abs=1e-3)
        again = np.zeros_like(expected)
        for column, row, plane in indices:
            again[plane, row, column] = 1
        np.testing.assert_array_equal(again, expected)
        pixels = {
            uid: found.get_pixels_by_source_instance([uid], segment_numbers=[number])
            for uid in referred
        }
        of_first = pydicom.dcmread(sources[f"{ROOT}.7.1"])
        plane = round(
            nifti.TransformPhysicalPointToContinuousIndex(
                [float(value) for value in of_first.ImagePositionPatient]
            )[2]
        )
        np.testing.assert_array_equal(pixels[f"{ROOT}.7.1"][0, ..., 0], expected[plane])


def test_a_series_that_cannot_be_referred_to_keeps_its_nifti(checkpoint, tmp_path, capsys):
    series = write_series(tmp_path / "series", body((7, 32, 24)), lacking=["0020|0052"])
    with pytest.raises(SystemExit):
        predict(checkpoint, series, tmp_path / "out", "--dicom_seg")
    said = capsys.readouterr().err
    assert "cannot be referred to by a DICOM-SEG" in said
    assert "no Frame Of Reference UID" in said
    assert (tmp_path / "out" / "masks" / "series_liver.nii.gz").is_file()
    assert not list((tmp_path / "out").rglob("*.dcm"))


def test_without_highdicom_a_sentence_comes_before_the_work(checkpoint, tmp_path, monkeypatch):
    series = write_series(tmp_path / "series", body((7, 32, 24)))
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(InputError, match=r"needs highdicom.*pip install 'lightning_seg\[dicom-seg"):
        predict(checkpoint, series, tmp_path / "out", "--dicom_seg")
    assert not (tmp_path / "out" / "masks").exists()


def test_an_overlay_of_a_volume_lies_as_one_looks_at_it(tmp_path, monkeypatch):
    """A bright mark at the patient's front and left is above on the right."""
    monkeypatch.setattr(volume_files, "CELL", 64)
    hu = np.full((64, 48, 9), -1000, np.int16)  # to the right, the front and the feet
    hu[4:12, 30:44] = 1000
    affine = np.diag([-1.0, 1.0, -2.0, 1.0])  # x falls to the right of the patient
    file = tmp_path / "scan.nii"
    nibabel.save(nibabel.Nifti1Image(hu, affine), file)
    reader = SliceReader(file, tmp_path)
    mask = SliceFile(tmp_path / "mask", reader, np.uint8)
    marked = np.zeros((48, 64), bool)
    marked[2:6, 40:50] = True  # rows to the back, columns to the left
    for place in (2, 3, 4, 5):
        mask[place] = marked
    target = tmp_path / "sheet.png"
    write_sheet_of_slices([mask], reader, (-1000, 1000), target)
    sheet = cv2.imread(str(target))[..., ::-1]
    height, width = 48 + TITLE + GAP, 64 + 2 * GAP
    assert sheet.shape == (2 * height, 2 * width, 3)  # slices 3 to 6 of 9
    for row in range(2):
        for column in range(2):
            cell = sheet[row * height + TITLE :, column * width + GAP :][:48, :64]
            bright = (cell == 255).all(-1)
            # 4 to 11 from the right-most voxel to the left, 30 to 43 to the front
            expected = np.zeros((48, 64), bool)
            expected[48 - 44 : 48 - 30, 4:12] = True
            np.testing.assert_array_equal(bright, expected)
            green = (cell == (64, 224, 96)).all(-1)
            edge = marked.copy()
            edge[3:5, 41:49] = False
            np.testing.assert_array_equal(green, edge)
            tint = (0.3 * np.array((64, 224, 96))).astype(np.uint8)
            assert (cell[3:5, 41:49] == tint).all()


def test_slices_of_an_overlay_are_those_with_a_mask():
    assert chosen_slices(np.array([0, 0, 1, 0, 1, 0], bool)) == [2, 3, 4]
    assert chosen_slices(np.zeros(3, bool)) == [0, 1, 2]
    places = chosen_slices(np.ones(300, bool))
    assert (len(places), places[0], places[-1]) == (volume_files.MOST_SLICES, 0, 299)


def test_predict_writes_the_overlay_of_a_volume_and_makes_a_lost_one_anew(checkpoint, tmp_path):
    file = tmp_path / "scan.nii"
    nibabel.save(nibabel.Nifti1Image(body((32, 32, 5)), np.diag([0.5, 1.0, 2.0, 1.0])), file)
    predict(checkpoint, file, tmp_path / "out", "--overlays")
    [sheet] = (tmp_path / "out" / "overlays").iterdir()
    assert sheet.name == "scan.jpg"
    sheet.unlink()
    predict(checkpoint, file, tmp_path / "out", "--overlays")
    assert sheet.is_file()
