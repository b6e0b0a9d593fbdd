"""One rule from pictures to pixels: a path, an open picture, an array, a tensor, an upload, an exported processor."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.data.reading.conversion import COLOURS_LOST, NEARLY_BLACK
from lightning_seg.data.reading.deep import PictureForm
from lightning_seg.data.reading.pictures import as_picture, read_picture
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.errors import InputError
from lightning_seg.export.hf import write_model
from lightning_seg.export.remote.image_processing_lightning_seg import LightningSegImageProcessor
from lightning_seg.inference import load
from lightning_seg.inference.ensemble import load_ensemble
from lightning_seg.serve._answer import as_json, mask_png
from lightning_seg.serve._limits import Limits, RequestError
from lightning_seg.serve._upload import Upload, read_upload
from tests.inference.conftest import write_checkpoint

COLOURS = render_phantom("polyp", 42, 3, 40)[0][:32]


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


def with_alpha(value):
    image = Image.fromarray(COLOURS).convert("RGBA")
    image.putalpha(value)
    return image


def saved(image, format, **options):
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


PLAIN = Image.fromarray(COLOURS)
PICTURES = {
    "turned.jpg": saved(PLAIN, "JPEG", **turned(6)),
    "mirrored.png": saved(PLAIN, "PNG", **turned(2)),
    "grey.png": saved(PLAIN.convert("L"), "PNG"),
    "opaque.png": saved(with_alpha(255), "PNG"),
    "palette.gif": saved(PLAIN.quantize(16), "GIF"),
    "print.tif": saved(PLAIN.convert("CMYK"), "TIFF"),
    "video.jpg": saved(PLAIN.convert("YCbCr"), "JPEG"),
    "black and white.png": saved(PLAIN.convert("1"), "PNG"),
}
REFUSED = {
    "deep.png": saved(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900), "PNG"),
    "clear.png": saved(with_alpha(100), "PNG"),
    "pages.tif": saved(PLAIN, "TIFF", save_all=True, append_images=[PLAIN]),
    "moving.gif": saved(PLAIN, "GIF", save_all=True, append_images=[PLAIN.rotate(90)]),
}


def ways(name, content, channels, folder):
    """How each reader reads a picture, as functions."""
    path = folder / name
    path.write_bytes(content)
    processor = LightningSegImageProcessor(None, channels)
    return {
        "training and predict": lambda: read_picture(path, channels),
        "load().predict of a path": lambda: as_picture(str(path), channels),
        "of an open picture": lambda: as_picture(Image.open(path), channels),
        "serve": lambda: read_upload(Upload(name, content), PictureForm(channels), Limits()),
        "an exported processor": lambda: np.rint(
            processor(Image.open(path))["pixel_values"][0].transpose(1, 2, 0) * 255
        ).astype(np.uint8),
    }


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PICTURES)
def test_all_readers_see_the_same_pixels(name, channels, tmp_path):
    found = {way: read() for way, read in ways(name, PICTURES[name], channels, tmp_path).items()}
    first = found["training and predict"]
    assert first.shape == ((40, 32) if name == "turned.jpg" else (32, 40)) + (channels,)
    for way, pixels in found.items():
        np.testing.assert_array_equal(pixels, first, err_msg=way)


@pytest.mark.parametrize("name", REFUSED)
def test_all_readers_refuse_what_cannot_be_meant(name, tmp_path):
    for way, read in ways(name, REFUSED[name], 3, tmp_path).items():
        with pytest.raises((ValueError, RequestError)) as caught:
            read()
        assert str(caught.value), way


def test_arrays_and_tensors_are_read_as_their_picture():
    for channels in (1, 3):
        expected = as_picture(PLAIN, channels)
        first = torch.from_numpy(COLOURS).permute(2, 0, 1)
        for given in (COLOURS, first, first.contiguous()):
            np.testing.assert_array_equal(as_picture(given, channels), expected)


def test_an_export_carries_the_reader_itself(tmp_path):
    from lightning_seg.data.reading import conversion

    network = load_ensemble([write_checkpoint(tmp_path / "a.ckpt")])
    (tmp_path / "folder").mkdir()
    write_model(tmp_path / "folder", network)
    ours = Path(conversion.__file__).read_text(encoding="utf-8")
    carried = (tmp_path / "folder" / "conversion.py").read_text(encoding="utf-8")
    body = ours[ours.index("def picture_array") :]
    assert body in carried


@pytest.mark.parametrize(
    ("window", "deep"), [((0, 4095), True), ("percentiles", True), ("percentiles", False)]
)
def test_a_network_of_windowed_pictures_reads_all_kinds_by_its_window(tmp_path, window, deep):
    values = COLOURS[..., 0].astype(np.uint16) * 16 if deep else COLOURS[..., 0]
    picture = Image.fromarray(values)
    (tmp_path / "a.png").write_bytes(content := saved(picture, "PNG"))
    form = PictureForm(1, window)
    expected = form.read_checked(tmp_path / "a.png")
    low, high = (
        window
        if window != "percentiles"
        else np.percentile(values[values > values.min()], (0.5, 99.5))
    )
    share = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(expected[..., 0], share * 255, atol=0.51)
    for given in (tmp_path / "a.png", picture, values, torch.from_numpy(values.astype(np.int32))):
        np.testing.assert_array_equal(form.take(given), expected)
    np.testing.assert_array_equal(read_upload(Upload("a.png", content), form, Limits()), expected)


def test_8_bits_are_refused_by_all_readers_in_a_window_of_more(tmp_path):
    picture = PLAIN.convert("L")
    (tmp_path / "a.png").write_bytes(content := saved(picture, "PNG"))
    form = PictureForm(1, (0, 4095))
    for given in (tmp_path / "a.png", picture, np.array(picture)):
        with pytest.raises(InputError, match="8 bits"):
            form.take(given)
    with pytest.raises(InputError, match="8 bits"):
        read_upload(Upload("a.png", content), form, Limits())


def test_whoever_gives_colours_to_a_grey_network_is_told(tmp_path):
    file = write_checkpoint(tmp_path / "ct.ckpt", "lits", in_channels=1, classes=["liver"])
    predictor, grey = load(file), PLAIN.convert("L").convert("RGB")
    (tmp_path / "a.png").write_bytes(saved(PLAIN, "PNG"))
    for given in (tmp_path / "a.png", PLAIN, COLOURS):
        with pytest.warns(UserWarning, match=COLOURS_LOST):
            found = predictor.predict(given)
        assert found.note == COLOURS_LOST
        assert COLOURS_LOST in repr(found)
    assert [each.note for each in predictor.predict([grey, PLAIN.convert("L")])] == ["", ""]
    for image, note in ((PLAIN, COLOURS_LOST), (grey, "")):
        upload = Upload("a.png", saved(image, "PNG"))
        assert as_json(predictor, upload, Limits(), ())["note"] == note
        assert mask_png(predictor, upload, Limits(), "liver")[1] == note


def test_a_picture_that_was_scaled_to_1_is_said_to_be_black(tmp_path):
    predictor = load(write_checkpoint(tmp_path / "a.ckpt"))
    scaled = (np.asarray(PLAIN) > 100).astype(np.uint8)
    assert scaled.max() == 1
    with pytest.warns(UserWarning, match="no value above 1 of 255"):
        assert predictor.predict(scaled).note == NEARLY_BLACK
    assert predictor.predict(scaled * 2).note == ""
    upload = Upload("a.png", saved(Image.fromarray(scaled), "PNG"))
    assert as_json(predictor, upload, Limits(), ())["note"] == NEARLY_BLACK


def test_masked_values_of_an_array_are_not_read():
    whole = np.ma.masked_array(COLOURS, mask=False)
    assert np.array_equal(PictureForm(3).take(whole), COLOURS)
    for form in (PictureForm(3), PictureForm(3, (0, 255))):
        with pytest.raises(InputError, match="masked values"):
            form.take(np.ma.masked_array(COLOURS, mask=COLOURS > 100))
