"""Bytes that nobody meant for them: each reader gives what it read, or one InputError; nothing else, and soon.

$LIGHTNING_SEG_FUZZ says how many files each reader gets (default 40), or for how long: 3000 or 600s;
`make fuzz` gives 3,000 and draws new ones each time. What once broke a reader stays, as one of `FOUND`.
"""

import gzip
import io
import itertools
import json
import os
import random
import time
import traceback
import zlib
from pathlib import Path

import nibabel
import numpy as np
import optuna
import pytest
import torch
import yaml
from PIL import Image
from starlette.testclient import TestClient

import lightning_seg as ls
from hpo.space import read_space
from hpo.storage import open_storage
from lightning_seg.data.reading.masks import read_labels, read_mask, read_nonzero
from lightning_seg.data.reading.pictures import read_picture
from lightning_seg.data.reading.volumes import read_grid, read_labels_volume, read_volume
from lightning_seg.data.sources.base.tables import read_table
from lightning_seg.data.splits import load_protocol
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable
from lightning_seg.evaluation.summary import Summary
from lightning_seg.files.documents import read_yaml
from lightning_seg.files.trust import check_code
from lightning_seg.runs.checkpoints import SavedModel, read_checkpoint
from lightning_seg.runs.environment import read_environment
from lightning_seg.runs.naming import recipe_place
from lightning_seg.serve._facts import facts
from lightning_seg.serve._limits import Limits
from lightning_seg.serve.app import create_app
from tests.inference.conftest import write_checkpoint

AMOUNT = os.environ.get("LIGHTNING_SEG_FUZZ", "40")
LONGEST = 20.0  # seconds of the processor that one file may take
TRICKS = (b"\0", b"\xff", b"nan", b"-1", b"1e999", b"9" * 30, b'"', b",", b"\n", b"{", b"[", b"../")


# --- valid files, which are then broken ---


def pixels(mode):
    if mode == "L":
        return Image.fromarray(np.eye(12, 9, dtype=np.uint8) * 255)
    size = (12, 9)
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 2, (*size, 3), np.uint8) * 255
    ).convert(mode)


def picture(form, **options):
    file = io.BytesIO()
    pixels("L" if form == "mask" else "RGB").save(
        file, "png" if form == "mask" else form, **options
    )
    return file.getvalue()


def volume():
    values = np.random.default_rng(0).integers(-200, 300, (6, 5, 4)).astype(np.int16)
    return nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 2.0, 1.0])).to_bytes()


def checkpoint(folder):
    return write_checkpoint(folder / "good.ckpt").read_bytes()


RECIPE = {
    "seed_everything": 3,
    "model": {"architecture": "unet", "options": {"widths": [4, 8]}},
    "data": {"dataset": "kvasir_seg", "size": 32},
    "trainer": {"max_epochs": 3, "callbacks": [{"class_path": "EarlyStopping"}]},
}
SPACE = {"model.lr": {"float": [1e-5, 1e-2], "log": True}, "data.size": {"categorical": [32, 64]}}
SUMMARY = {
    "checkpoint": "best.ckpt",
    "dataset": "kvasir_seg",
    "protocol": "auto",
    "split": "test",
    "images": 3,
    "scores": {"polyp": {"dice": {"image": {"value": 0.5, "interval": [0.4, 0.6]}}}},
}
TABLE = "image,mask,group,split\na.png,b.png,p1,train\nc.png,d.png,p2,val\n"
PROTOCOL = "# name: mine\nid,split\na,train\nb,val\nc,test\n"


def scores():
    counts = np.arange(24).reshape(3, 2, 4)
    return ScoreTable(("a", "b", "c"), ("x", "y"), counts)


def journal(folder):
    file = folder / "made.journal"
    study = optuna.create_study(storage=open_storage(str(file), create=True), study_name="a")
    study.set_user_attr("spec", "{}")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    return file.read_bytes()


def written(folder, write, name):
    write(folder / name)
    return (folder / name).read_bytes()


def read_journal(path):
    storage = open_storage(str(path))
    if "a" not in optuna.get_all_study_names(storage):
        raise InputError("there is no study 'a'.")
    study = optuna.load_study(study_name="a", storage=storage)
    return [trial.params for trial in study.trials]


def as_recipe(path):
    recipe_place(path)
    check_code(read_yaml(path), path, trust_code=False)


def in_folder(read):
    return lambda path: read(path.parent)


# reader -> the name of its file, a valid one, and how it is read
READERS = {
    "png": ("a.png", lambda _: picture("png"), lambda path: read_picture(path, 3)),
    "jpeg": ("a.jpg", lambda _: picture("jpeg"), lambda path: read_picture(path, 3)),
    "tiff": ("a.tif", lambda _: picture("tiff"), lambda path: read_picture(path, 1)),
    "webp": ("a.webp", lambda _: picture("webp"), lambda path: read_picture(path, 3)),
    "gif": ("a.gif", lambda _: picture("gif"), lambda path: read_picture(path, 3)),
    "bmp": ("a.bmp", lambda _: picture("bmp"), lambda path: read_picture(path, 3)),
    "ppm": ("a.ppm", lambda _: picture("ppm"), lambda path: read_picture(path, 3)),
    "mask": ("a.png", lambda _: picture("mask"), read_mask),
    "mask tiff": ("a.tif", lambda _: picture("tiff"), read_nonzero),
    "labels": ("a.png", lambda _: picture("mask"), read_labels),
    "nifti": ("a.nii", lambda _: volume(), read_volume),
    "nifti.gz": ("a.nii.gz", lambda _: gzip.compress(volume(), mtime=0), read_volume),
    "nifti grid": ("a.nii", lambda _: volume(), read_grid),
    "nifti labels": ("a.nii", lambda _: volume(), read_labels_volume),
    "csv of files": ("a.csv", lambda _: TABLE.encode(), read_table),
    "protocol": ("a.csv", lambda _: PROTOCOL.encode(), load_protocol),
    "scores.csv": (
        "scores.csv",
        lambda f: written(f, scores().write, "scores.csv"),
        ScoreTable.read,
    ),
    "scores.parquet": (
        "scores.parquet",
        lambda f: written(f, scores().write, "scores.parquet"),
        ScoreTable.read,
    ),
    "summary.json": (
        "summary.json",
        lambda _: json.dumps(SUMMARY).encode(),
        in_folder(Summary.read),
    ),
    "environment.json": (
        "environment.json",
        lambda _: json.dumps({"command": ["fit"], "sittings": []}).encode(),
        in_folder(read_environment),
    ),
    "recipe": ("a.yaml", lambda _: yaml.safe_dump(RECIPE).encode(), as_recipe),
    "space": ("a.yaml", lambda _: yaml.safe_dump(SPACE).encode(), read_space),
    "checkpoint": ("a.ckpt", checkpoint, read_checkpoint),
    "place of a checkpoint": ("a.ckpt", checkpoint, SavedModel.read),
    "journal": ("study.journal", journal, read_journal),
}


def broken(content, draw):
    """The content with a few changes of the kinds that disks, networks and people make."""
    found = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        place = draw.randrange(len(found) + 1)
        kind = draw.randrange(6)
        if kind == 0:
            del found[place:]
        elif kind == 1 and found:
            found[place % len(found)] ^= 1 << draw.randrange(8)
        elif kind == 2:
            found[place:place] = draw.choice(TRICKS)
        elif kind == 3:
            found[place : place + draw.randrange(40)] = b""
        elif kind == 4:
            end = place + draw.randrange(200)
            found[place:place] = found[place:end]
        elif found:
            found[place % len(found)] = draw.randrange(256)
    return bytes(found)


def seed_of(name):
    fresh = "LIGHTNING_SEG_FUZZ" in os.environ
    return random.SystemRandom().randrange(2**32) if fresh else zlib.crc32(name.encode())


# what broke a reader once: reader -> files
FOUND: dict[str, list[bytes]] = {
    "tiff": [picture("tiff").replace(b"\x00\x01\x04\x00", b"\x00\x01\x04\x00" * 4, 1)],
    "gif": [picture("gif").replace(b"\x00\x0c", b"\x00\x0c-1" * 3)[:70]],
    "nifti labels": [volume()[:40] + b"\x03\x00\x06\xee" + volume()[44:]],
    "protocol": [b"\xa3" + PROTOCOL.encode()],
    "scores.csv": [b"id,group,class,tp,fp,fn,tn\r\na,a,x,0,99999999999999999999999,2,3\r\n"],
    "journal": [b'{"op_code":0,"worke'],
}


def tries():
    """0, 1, 2, ...: as many as `AMOUNT` says, or for as long."""
    if AMOUNT.isdigit():
        yield from range(int(AMOUNT))
        return
    end = time.monotonic() + float(AMOUNT.removesuffix("s"))
    yield from itertools.takewhile(lambda _: time.monotonic() < end, itertools.count())


def place_of(error):
    """Where an exception left our code, which tells one fault from another."""
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
    ]
    return f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")
def test_a_broken_file_is_read_or_refused_in_a_sentence(name, tmp_path, record_property):
    file, make, read = READERS[name]
    (tmp_path / "good").mkdir()
    content = make(tmp_path / "good")
    path = tmp_path / "bad" / file
    path.parent.mkdir()
    seed = seed_of(name)
    draw = random.Random(seed)
    tried = refused = 0
    faults = {}
    for tried in tries():
        kept = FOUND.get(name, [])
        bad = kept[tried] if tried < len(kept) else broken(content, draw)
        path.write_bytes(bad)
        began = time.process_time()
        try:
            read(path)
        except InputError as error:
            refused += 1
            if "\n" in str(error):
                faults.setdefault("several lines", (tried, str(error), bad))
        except Exception as error:
            faults.setdefault(place_of(error), (tried, str(error), bad))
        if time.process_time() - began > LONGEST:
            faults.setdefault("too long", (tried, time.process_time() - began, bad))
    record_property("attacks", tried + 1)
    assert not faults, (name, seed, faults)
    assert refused or tried < 39


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    file = write_checkpoint(tmp_path_factory.mktemp("fuzz") / "a.ckpt")
    limits, predictor = Limits(bytes=100_000, pixels=10_000), ls.load(file)
    app = create_app(predictor, facts(predictor, [file], limits), limits)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def test_a_broken_upload_is_answered_in_a_sentence(client, record_property):
    seed = seed_of("upload")
    draw, good = random.Random(seed), picture("png")
    boundary = {"Content-Type": "multipart/form-data; boundary=b"}
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    tried = 0
    for tried in tries():
        body = broken(good, draw)
        headers = {}
        if tried % 2:
            body, headers = broken(form + good + b"\r\n--b--\r\n", draw), boundary
        answer = client.post("/api/predict", content=body, headers=headers)
        assert answer.status_code in (200, 400, 413, 415), (seed, tried, answer.text, body)
        assert answer.status_code == 200 or set(answer.json()) == {"error"}
    record_property("attacks", tried + 1)


def test_the_pieces_are_valid_before_they_are_broken(tmp_path):
    (tmp_path / "good").mkdir()
    for name, (file, make, read) in READERS.items():
        path = tmp_path / name / file
        path.parent.mkdir()
        path.write_bytes(make(tmp_path / "good"))
        if name in ("csv of files", "nifti labels", "place of a checkpoint"):
            continue  # its pictures are not there; no labels; no run
        read(path)
    assert torch.is_tensor(
        next(iter(read_checkpoint(tmp_path / "checkpoint/a.ckpt")["state_dict"].values()))
    )


def test_a_packed_picture_unfolds_into_no_more_than_its_header_says(tmp_path):
    good = picture("ppm")
    (tmp_path / "a.ppm.gz").write_bytes(gzip.compress(good))
    np.testing.assert_array_equal(
        read_picture(tmp_path / "a.ppm.gz", 3), read_picture(tmp_path / "a.ppm", 3, good)
    )
    (tmp_path / "b.ppm.gz").write_bytes(gzip.compress(good + bytes(50_000_000)))
    with pytest.raises(InputError, match="unfolds into more than the 9 x 12 pixels"):
        read_picture(tmp_path / "b.ppm.gz", 3)
