"""`lightning-seg predict --input` on pictures: what it writes, what it skips, what it says of bad input."""

import csv
import errno
import json
import os
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

import lightning_seg as ls
from lightning_seg.__main__ import main as front
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.store.sized import resize_sample
from lightning_seg.errors import InputError
from lightning_seg.inference.__main__ import main
from lightning_seg.inference.coco import contours, run_lengths
from lightning_seg.runs.checkpoints import check_data_fit
from lightning_seg.serve import main as serve
from lightning_seg.training.module import SegmentationModule
from tests.inference.conftest import read, write_checkpoint


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


def plain(checkpoint, path, size=32):
    """Probabilities (H, W) by a loop without any of the code under test, scaled by torch."""
    image = np.asarray(Image.open(path).convert("RGB"))
    scaled = resize_sample(Sample(image, image[..., :1]), (size, size)).image
    module = SegmentationModule.load(checkpoint)
    with torch.inference_mode():
        found = module(torch.from_numpy(scaled.transpose(2, 0, 1).copy())[None]).logits.sigmoid()
    return torch.nn.functional.interpolate(found, image.shape[:2], mode="bilinear")[0, 0].numpy()


def table(output):
    with (output / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_masks_have_the_size_of_their_picture_and_are_those_of_a_plain_loop(
    checkpoint, pictures, tmp_path
):
    predict(checkpoint, pictures, tmp_path / "out", "--batch_size", "3", "--probabilities")
    names = sorted(path.relative_to(pictures).with_suffix("") for path in pictures.rglob("*.png"))
    assert len(names) == 7
    shares = []
    for name in names:
        expected = plain(checkpoint, pictures / f"{name}.png")
        mask = read(tmp_path / "out" / "masks" / f"{name}.png")
        sure = abs(expected - 0.5) > 1e-5
        np.testing.assert_array_equal(mask[sure], np.where(expected > 0.5, 255, 0)[sure])
        maps = cv2.imread(
            str(tmp_path / "out" / "probabilities" / f"{name}.png"), cv2.IMREAD_UNCHANGED
        )
        np.testing.assert_allclose(maps / 65535, expected, atol=2e-5)
        shares.append((mask > 0).mean())
    assert 0.05 < np.mean(shares) < 0.95


def test_the_table_describes_each_mask(checkpoint, pictures, tmp_path):
    predict(checkpoint, pictures, tmp_path / "out")
    rows = table(tmp_path / "out")
    assert [row["file"] for row in rows] == sorted(
        path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png")
    )
    for row in rows:
        mask = read(tmp_path / "out" / "masks" / row["file"]) > 0
        assert (int(row["height"]), int(row["width"])) == mask.shape
        assert int(row["area"]) == mask.sum()
        assert int(row["components"]) == cv2.connectedComponents(mask.astype(np.uint8))[0] - 1
        probability = plain(checkpoint, pictures / row["file"])
        assert float(row["confidence"]) == pytest.approx(probability[mask].mean(), abs=1e-3)


def test_several_classes_get_a_mask_each_and_grey_networks_read_grey(pictures, tmp_path):
    file = write_checkpoint(tmp_path / "ct.ckpt", in_channels=1, classes=["liver", "tumor"])
    predict(file, pictures / "below", tmp_path / "out", "--overlays")
    assert {path.name for path in (tmp_path / "out" / "masks").iterdir()} == {
        "picture 6_liver.png",
        "picture 6_tumor.png",
    }
    assert [row["class"] for row in table(tmp_path / "out")] == ["liver", "tumor"]
    assert read(tmp_path / "out" / "overlays" / "picture 6.jpg").shape == (
        *read(pictures / "below" / "picture 6.png").shape[:2],
        3,
    )


def test_a_restart_does_only_what_is_missing_or_changed(checkpoint, pictures, tmp_path, capsys):
    output = tmp_path / "out"
    predict(checkpoint, pictures, output)
    first = table(output)
    (output / "masks" / "picture 1.png").unlink()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(pictures / "picture 2.png")
    os.utime(pictures / "picture 2.png", (2e9, 2e9))
    with (output / "predictions.csv").open("a") as file:
        file.write("picture 9.png,3")  # cut off by a kill
    kept = (output / "masks" / "picture 3.png").stat().st_mtime_ns
    capsys.readouterr()
    predict(checkpoint, pictures, output)
    printed = capsys.readouterr().out
    assert "5 of 7 pictures are done already" in printed
    assert "2 pictures" in printed
    assert (output / "masks" / "picture 3.png").stat().st_mtime_ns == kept
    second = {row["file"]: row for row in table(output)}
    assert len(second) == len(table(output)) == 7
    assert second["picture 2.png"]["height"] == "20"
    assert [second[row["file"]] for row in first if row["file"] != "picture 2.png"] == [
        row for row in first if row["file"] != "picture 2.png"
    ]


def test_other_settings_do_not_mix_in_one_folder(checkpoint, other, pictures, tmp_path):
    predict(checkpoint, pictures, tmp_path / "out")
    with pytest.raises(InputError, match=r"threshold = 0\.5, not 0\.4"):
        predict(checkpoint, pictures, tmp_path / "out", "--threshold", "0.4")
    named = f"holds results of {re.escape(str(checkpoint))}, not of {re.escape(str(other))}"
    with pytest.raises(InputError, match=named):
        predict(other, pictures, tmp_path / "out")


def test_an_ensemble_averages_the_probabilities(checkpoint, other, pictures, tmp_path):
    predict(checkpoint, pictures, tmp_path / "out", "--ckpt_path", str(other), "--probabilities")
    for name in ("picture 0", "picture 5"):
        expected = (
            plain(checkpoint, pictures / f"{name}.png") + plain(other, pictures / f"{name}.png")
        ) / 2
        maps = cv2.imread(
            str(tmp_path / "out" / "probabilities" / f"{name}.png"), cv2.IMREAD_UNCHANGED
        )
        np.testing.assert_allclose(maps / 65535, expected, atol=2e-5)


def test_an_ensemble_of_different_sizes_is_refused(checkpoint, pictures, tmp_path):
    large = write_checkpoint(tmp_path / "large.ckpt", size=64)
    with pytest.raises(InputError, match=r"with size 32 and .* with 64"):
        predict(checkpoint, pictures, tmp_path / "out", "--ckpt_path", str(large))


def test_two_devices_give_what_one_gives(checkpoint, pictures, tmp_path):
    for name, devices in (("one", "cpu"), ("two", "cpu,cpu")):
        args = [
            "--ckpt_path",
            str(checkpoint),
            "--input",
            str(pictures),
            "--output",
            str(tmp_path / name),
        ]
        main([*args, "--devices", devices, "--batch_size", "2"])
    assert table(tmp_path / "one") == table(tmp_path / "two")


def test_windows_of_a_large_picture_are_blended(checkpoint, tmp_path):
    """Where all windows agree, so does the blend; and the network sees the picture at its own resolution."""
    Image.fromarray(np.full((70, 101, 3), 90, np.uint8)).save(tmp_path / "flat.png")
    predict(checkpoint, tmp_path / "flat.png", tmp_path / "out", "--tile", "32", "--probabilities")
    maps = (
        cv2.imread(str(tmp_path / "out" / "probabilities" / "flat.png"), cv2.IMREAD_UNCHANGED)
        / 65535
    )
    assert maps.shape == (70, 101)
    module = SegmentationModule.load(checkpoint)
    window = (
        module(torch.full((1, 3, 32, 32), 90, dtype=torch.uint8))
        .logits.sigmoid()[0, 0]
        .detach()
        .numpy()
    )
    assert window.min() - 1e-4 <= maps.min() <= maps.max() <= window.max() + 1e-4
    assert maps[35, 50] == pytest.approx(window[16, 16], abs=0.05)


def test_coco_polygons_enclose_exactly_the_masks(checkpoint, pictures, tmp_path):
    predict(checkpoint, pictures, tmp_path / "out", "--coco")
    content = json.loads((tmp_path / "out" / "coco.json").read_text(encoding="utf-8"))
    assert [category["name"] for category in content["categories"]] == ["polyp"]
    for image in content["images"]:
        drawn = np.zeros((image["height"], image["width"]), int)
        for part in content["annotations"]:
            if part["image_id"] == image["id"]:
                drawn += rasterized(part["segmentation"], drawn.shape)
        np.testing.assert_array_equal(
            drawn, read(tmp_path / "out" / "masks" / image["file_name"]) > 0
        )


def rasterized(segmentation, shape):
    """Pixels whose centre lies inside, by counting the edges to their left."""
    if isinstance(segmentation, dict):
        values = np.repeat(np.arange(len(segmentation["counts"])) % 2, segmentation["counts"])
        return values.reshape(shape[::-1]).T
    corners = np.array(segmentation[0]).reshape(-1, 2)
    rows, columns = np.indices(shape) + 0.5
    inside = np.zeros(shape, int)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        assert x0 == x1 or y0 == y1
        inside += (x0 < columns) & (min(y0, y1) < rows) & (rows < max(y0, y1))
    return inside % 2


def test_pycocotools_decodes_the_written_masks(checkpoint, pictures, tmp_path):
    predict(checkpoint, pictures, tmp_path / "out", "--coco")
    found = COCO(str(tmp_path / "out" / "coco.json"))
    assert found.getAnnIds()
    for image in found.loadImgs(found.getImgIds()):
        notes = found.loadAnns(found.getAnnIds(image["id"]))
        drawn = sum(found.annToMask(note) for note in notes)
        written = read(tmp_path / "out" / "masks" / image["file_name"]) > 0
        np.testing.assert_array_equal(drawn, written)
        assert [found.annToMask(note).sum() for note in notes] == [note["area"] for note in notes]
        boxes = [coco_masks.toBbox(found.annToRLE(note)).tolist() for note in notes]
        assert boxes == [note["bbox"] for note in notes]


@pytest.mark.parametrize("smooth", [0.3, 0.8, 2.0])
def test_pycocotools_decodes_parts_that_touch_at_corners_or_have_holes(smooth):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        noise = rng.random(tuple(rng.integers(3, 60, 2)))
        mask = cv2.GaussianBlur(noise, (0, 0), smooth) > 0.5
        parts = [part["segmentation"] for part in contours(mask)]
        drawn = np.zeros(mask.shape, int)
        for part in parts:
            packed = coco_masks.frPyObjects(part, *mask.shape)
            drawn += coco_masks.decode(
                coco_masks.merge(packed) if isinstance(part, list) else packed
            )
        np.testing.assert_array_equal(drawn, mask)


@pytest.mark.parametrize("seed", range(5))
def test_contours_of_any_mask_are_exact(seed):
    mask = (
        cv2.GaussianBlur(np.random.default_rng(seed).random((23, 31)), (0, 0), 1 + seed / 2) > 0.5
    )
    mask[0, 0] = True
    parts = contours(mask)
    drawn = sum(rasterized(part["segmentation"], mask.shape) for part in parts)
    np.testing.assert_array_equal(drawn, mask)
    assert sum(part["area"] for part in parts) == mask.sum()
    assert {type(part["segmentation"]) for part in parts} <= {list, dict}


def test_run_lengths_start_with_the_background():
    assert run_lengths(np.array([[1, 0], [1, 1]], bool)) == [0, 2, 1, 1]
    assert run_lengths(np.zeros((2, 2), bool)) == [4]


def bomb(path):
    """A PNG of 30,000 x 30,000 pixels in a few hundred bytes."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    chunks = [head, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    data = b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def test_unreadable_files_are_told_at_the_end_and_the_rest_is_done(
    checkpoint, pictures, tmp_path, capsys
):
    (pictures / "text.jpg").write_text("no picture")
    whole = (pictures / "picture 1.png").read_bytes()
    (pictures / "cut.png").write_bytes(whole[: len(whole) // 2])
    bomb(pictures / "bomb.png")
    Image.new("RGBA", (9, 9), (1, 2, 3, 100)).save(pictures / "transparent.tif")
    Image.new("CMYK", (9, 8), (10, 20, 30, 40)).save(pictures / "four channels.tif")
    Image.new("RGB", (1, 1), (90, 20, 30)).save(pictures / "one pixel.png")
    with pytest.raises(SystemExit) as caught:
        predict(checkpoint, pictures, tmp_path / "out")
    assert caught.value.code == 1
    errors = capsys.readouterr().err
    for words in (
        "text.jpg (10 bytes) is no readable image",
        "cut.png cannot be decoded",
        "bomb.png has more pixels than the 178956970 allowed",
        "transparent.tif has transparent pixels",
        "4 of 13 inputs could not be predicted",
    ):
        assert words in errors
    assert errors.count("error:") == 4
    assert read(tmp_path / "out" / "masks" / "one pixel.png").shape == (1, 1)
    assert read(tmp_path / "out" / "masks" / "four channels.png").shape == (8, 9)
    assert len(table(tmp_path / "out")) == 9


def test_a_large_picture_is_taken_where_it_is_allowed(checkpoint, tmp_path, capsys):
    Image.new("RGB", (120, 100), (90, 20, 30)).save(tmp_path / "large.png")
    with pytest.raises(SystemExit):
        predict(checkpoint, tmp_path / "large.png", tmp_path / "out", "--max_pixels", "11000")
    assert "raise --max_pixels" in capsys.readouterr().err
    predict(checkpoint, tmp_path / "large.png", tmp_path / "out", "--max_pixels", "12000")
    assert read(tmp_path / "out" / "masks" / "large.png").shape == (100, 120)


def test_a_full_disk_keeps_what_is_done_and_the_same_command_goes_on(
    checkpoint, pictures, tmp_path, monkeypatch
):
    from lightning_seg.inference import images

    write = images.write_png

    def full(path, picture):
        if path.name == "picture 3.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, picture)

    monkeypatch.setattr(images, "write_png", full)
    with pytest.raises(
        InputError, match=r"No space left on device; what was finished before is kept"
    ):
        predict(checkpoint, pictures, tmp_path / "out")
    assert [row["file"] for row in table(tmp_path / "out")] == [
        "below/picture 6.png",
        *(f"picture {n}.png" for n in range(3)),
    ]
    monkeypatch.undo()
    predict(checkpoint, pictures, tmp_path / "out")
    assert len(table(tmp_path / "out")) == 7


def test_an_output_that_cannot_be_is_a_sentence(checkpoint, pictures, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write into the output .*file/out"):
        predict(checkpoint, pictures, tmp_path / "file" / "out")


def test_results_in_the_input_folder_are_not_predicted_again(checkpoint, pictures):
    predict(checkpoint, pictures, pictures / "out")
    predict(checkpoint, pictures, pictures / "out")
    assert len(table(pictures / "out")) == 7


def test_patterns_and_equal_stems_are_kept_apart(checkpoint, pictures, tmp_path):
    Image.open(pictures / "picture 1.png").save(pictures / "picture 1.bmp")
    predict(checkpoint, pictures / "*1.*", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "masks").iterdir()} == {
        "picture 1.png.png",
        "picture 1.bmp.png",
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tta", "flip"], "did you mean 'flips'"),
        (["--postprocess", "holes"], "did you mean 'fill_holes'"),
        (["--threshold", "1.5"], r"the threshold is 1\.5"),
        (["--precision", "8"], "no precision named '8'"),
        (["--batch_size", "many"], "--batch_size is 'many'"),
        (["--batch_size", "0"], "batch_size is 0"),
        (["--tile", "0"], "tile is 0"),
        (["--overlap", "1"], "overlap is 1"),
        (["--devices", "gpu7"], "there is no device 'gpu7'"),
    ],
)
def test_a_wrong_option_is_a_sentence(checkpoint, pictures, tmp_path, options, words):
    args = [
        "--ckpt_path",
        str(checkpoint),
        "--input",
        str(pictures),
        "--output",
        str(tmp_path / "out"),
    ]
    with pytest.raises(InputError, match=words):
        main([*args, *options])


def test_an_input_that_holds_nothing_is_a_sentence(checkpoint, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("")
    with pytest.raises(InputError, match="holds no picture, video, volume or DICOM series"):
        predict(checkpoint, tmp_path / "in", tmp_path / "out")
    with pytest.raises(InputError, match="names no file"):
        predict(checkpoint, tmp_path / "nowhere", tmp_path / "out")


def test_the_front_door_leads_there(checkpoint, pictures, tmp_path):
    front(
        [
            "predict",
            "--ckpt_path",
            str(checkpoint),
            f"--input={pictures}",
            "--output",
            str(tmp_path / "out"),
        ]
    )
    assert len(table(tmp_path / "out")) == 7


def test_the_library_predicts_paths_pictures_and_arrays_alike(checkpoint, pictures, tmp_path):
    model = ls.load(checkpoint)
    path = pictures / "picture 2.png"
    image = Image.open(path).convert("RGB")
    one = model.predict(path)
    assert one.mask.dtype == bool
    assert one.mask.shape == one.probability.shape == (1, *np.asarray(image).shape[:2])
    np.testing.assert_allclose(one.probability[0], plain(checkpoint, path), atol=1e-5)
    for same in (str(path), image, np.asarray(image)):
        np.testing.assert_array_equal(model.predict(same).probability, one.probability)
    several = model.predict([path, pictures / "picture 0.png", image])
    assert [found.mask.shape[1:] for found in several] == [
        one.mask.shape[1:],
        (64, 40),
        one.mask.shape[1:],
    ]
    np.testing.assert_allclose(several[2].probability, one.probability, atol=1e-6)
    assert model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).logits.shape == (1, 1, 32, 32)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4, 3)), np.zeros((3, 8, 8), np.uint8), Image.new("RGBA", (4, 4))]
)
def test_what_is_no_picture_is_a_sentence(checkpoint, wrong):
    with pytest.raises(InputError, match=r"no picture|transparent pixels"):
        ls.load(checkpoint).predict(wrong)


def test_a_network_of_slices_refuses_pictures(pictures, tmp_path):
    for count in (3, 5):
        file = write_checkpoint(tmp_path / "ct.ckpt", dataset="lits", in_channels=count)
        sentence = f"takes {count} neighbouring slices of a scan, which no picture holds"
        with pytest.raises(InputError, match=sentence):
            predict(file, pictures, tmp_path / "out")
        with pytest.raises(InputError, match=sentence):
            ls.load(file).predict(np.zeros((32, 32, 3), np.uint8))
        with pytest.raises(InputError, match=sentence):
            serve(["--ckpt_path", str(file), "--port", "0", "--device", "cpu"])


def test_a_checkpoint_says_what_its_channels_are(pictures, tmp_path):
    """Whatever its data set is called, which code may have changed since."""
    file = write_checkpoint(tmp_path / "ct.ckpt")
    predict(file, pictures, tmp_path / "out")
    content = torch.load(file, weights_only=True)
    torch.save(content | {"lightning_seg": {"channels": "slices"}}, file)
    with pytest.raises(InputError, match="neighbouring slices"):
        predict(file, pictures, tmp_path / "slices")
    data = SegmentationDataModule("kvasir_seg")
    with pytest.raises(InputError, match="are slices, and those of the data RGB"):
        check_data_fit(data, torch.load(file, weights_only=True), file)


def test_a_network_of_pictures_as_they_are_takes_any_size(pictures, tmp_path):
    file = write_checkpoint(tmp_path / "any.ckpt", size=None)
    predict(file, pictures, tmp_path / "out")
    module = SegmentationModule.load(file)
    for row in table(tmp_path / "out"):
        image = np.asarray(Image.open(pictures / row["file"]))
        found = (
            module(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
            .logits[0, 0]
            .detach()
            .numpy()
        )
        mask = read(tmp_path / "out" / "masks" / row["file"]) > 0
        np.testing.assert_array_equal(mask[abs(found) > 1e-4], (found > 0)[abs(found) > 1e-4])


def test_a_network_of_grey_slices_says_that_it_does_not_see_colours(tmp_path, capsys):
    network = write_checkpoint(
        tmp_path / "ct.ckpt", "lits", in_channels=1, classes=["liver"], normalization="symmetric"
    )
    pixels = np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "photo.png")
    Image.fromarray(np.repeat(pixels[..., :1], 3, axis=2)).save(tmp_path / "in" / "grey.png")
    for _ in range(2):  # also when it is done already
        predict(network, tmp_path / "in", tmp_path / "out")
        told = capsys.readouterr().err
        assert "note: photo.png: in colour, of which the network sees the grey alone" in told
        assert "grey.png" not in told
