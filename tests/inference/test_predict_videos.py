"""`lightning-seg predict --input` on videos."""

import csv
import shutil

import cv2
import numpy as np
import pytest
import torch

import lightning_seg as ls
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.inference.__main__ import main
from lightning_seg.inference.pictures import overlay

FRAMES = 21


@pytest.fixture(params=[".avi", ".mp4"])
def video(request, tmp_path):
    """21 frames of 64 x 48, a new scene every seven."""
    path = tmp_path / f"clip{request.param}"
    codec = cv2.VideoWriter.fourcc(*("MJPG" if request.param == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), codec, 10.0, (64, 48))
    for number in range(FRAMES):
        writer.write(render_phantom("polyp", 42, number // 7, 64)[0][:48, :, ::-1].copy())
    writer.release()
    return path


def frames(path):
    capture = cv2.VideoCapture(str(path))
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield frame[..., ::-1]


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


def test_every_frame_has_its_row_and_its_overlay(checkpoint, video, tmp_path, capsys):
    predict(checkpoint, video, tmp_path / "out", "--batch_size", "4")
    assert f"{FRAMES} frames of {video.name}, " in capsys.readouterr().out
    with (tmp_path / "out" / "videos" / "clip.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    model = ls.load(checkpoint)
    expected = [
        int(model.predict(np.ascontiguousarray(frame)).mask.sum()) for frame in frames(video)
    ]
    assert [int(row["area"]) for row in rows] == pytest.approx(expected, abs=2)
    assert [row["frame"] for row in rows] == [str(number) for number in range(FRAMES)]
    assert rows[-1]["seconds"] == "2.000"
    drawn = list(frames(tmp_path / "out" / "videos" / video.name))
    assert len(drawn) == FRAMES
    for frame, found in zip(frames(video), drawn, strict=True):
        mask = torch.from_numpy(model.predict(np.ascontiguousarray(frame)).mask)
        right = overlay(torch.from_numpy(frame.transpose(2, 0, 1).copy()), mask).astype(int)
        off, plain = np.abs(found - right).mean(), np.abs(found.astype(int) - frame).mean()
        assert off < 20
        assert off < 0.6 * plain
    assert {path.name for path in (tmp_path / "out" / "videos").iterdir()} == {
        "clip.csv",
        video.name,
    }


def test_a_video_that_is_done_is_skipped(checkpoint, video, tmp_path, capsys):
    predict(checkpoint, video, tmp_path / "out")
    written = (tmp_path / "out" / "videos" / video.name).stat().st_mtime_ns
    predict(checkpoint, video, tmp_path / "out")
    assert f"{video.name} is done already" in capsys.readouterr().out
    assert (tmp_path / "out" / "videos" / video.name).stat().st_mtime_ns == written


def test_what_is_no_video_is_told_and_leaves_nothing(checkpoint, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(SystemExit) as caught:
        predict(checkpoint, tmp_path / "text.mp4", tmp_path / "out")
    assert caught.value.code == 1
    assert "text.mp4 is no readable video" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"settings.json"}


def test_the_mask_of_each_frame_is_written_on_request(checkpoint, video, tmp_path):
    home = tmp_path / "in" / "a" / "b"
    home.mkdir(parents=True)
    shutil.copy(video, home)
    common = ["--ckpt_path", str(checkpoint), "--input", str(tmp_path / "in"), "--devices", "cpu"]
    main([*common, "--output", str(tmp_path / "plain")])
    assert not list((tmp_path / "plain" / "videos").rglob("*.png"))
    main([*common, "--output", str(tmp_path / "out"), "--frame-masks"])
    [listing] = (tmp_path / "out" / "videos").rglob("*.csv")
    rows = list(csv.DictReader(listing.open()))
    classes = len({row["class"] for row in rows})
    masks = sorted(
        (tmp_path / "out" / "videos" / "masks" / "a" / "b" / listing.stem).glob("frame_*.png")
    )
    assert len(masks) == len(rows)
    if classes == 1:
        for row, file in zip(rows, masks, strict=True):
            mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            assert np.count_nonzero(mask) == int(row["area"])
            assert set(np.unique(mask)) <= {0, 255}
