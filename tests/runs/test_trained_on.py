"""Images that a network was trained on are refused, by what they show and not by their names."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from lightning_seg import cli
from lightning_seg.data.fingerprint import Content, Fingerprint
from lightning_seg.data.splits import load_protocol
from lightning_seg.errors import InputError
from lightning_seg.evaluation import Summary
from lightning_seg.reports.comparison import main as compare
from lightning_seg.runs.cautions import run_cautions
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.runs.trained_on import TrainedOn


def write_pictures(root: Path, seed: int, names: list[str]) -> Path:
    """Pictures of 16 x 16 pixels with one rectangle each, and its mask."""
    draw = np.random.default_rng(seed)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for name in names:
        mask = np.zeros((16, 16), np.uint8)
        top, left = draw.integers(0, 8, 2)
        mask[top : top + 8, left : left + 8] = 255
        image = draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(root / "images" / f"{name}.png"), image)
        cv2.imwrite(str(root / "masks" / f"{name}.png"), mask)
    return root


NAMES = [f"p{place:02d}" for place in range(20)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("home") / "data", 0, NAMES)


@pytest.fixture(scope="module")
def checkpoint(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best checkpoint of a short training on the pictures at home, under ``auto``."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = {
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 1},
        "data": {"dataset": "folder", "root": str(home), "size": 16, "batch_size": 4},
        "model": {"architecture": "unet", "options": {"widths": [4, 8]}},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(recipe))
    cli.run(["fit", "-c", str(folder / "small.yaml"), "--runs", str(folder)])
    return next(folder.glob("small/version_0/checkpoints/best*.ckpt"))


def score(checkpoint: Path, root: Path, protocol: str = "auto", command: str = "test") -> Any:
    return cli.run(
        [
            command,
            f"--ckpt_path={checkpoint}",
            f"--data.root={root}",
            f"--data.protocol={protocol}",
            "--trainer.accelerator=cpu",
            "--measures=none",
        ]
    )


def renamed(home: Path, target: Path, names: dict[str, str]) -> Path:
    for part in ("images", "masks"):
        (target / part).mkdir(parents=True)
        for old, new in names.items():
            shutil.copy(home / part / f"{old}.png", target / part / f"{new}.png")
    return target


def trained_names(checkpoint: Path, split: str = "train") -> list[str]:
    content = torch.load(checkpoint, weights_only=True)
    names = content["lightning_seg"]["trained_on"]
    assert len(content["lightning_seg"]["images"]["train"]) == len(names) == 16
    return [id for id in NAMES if (id in names) == (split == "train")]


def test_the_same_pictures_under_other_names_are_refused(
    checkpoint: Path, home: Path, tmp_path: Path
) -> None:
    three = dict(zip(trained_names(checkpoint)[:3], ("x", "y", "z"), strict=True))
    other = write_pictures(tmp_path / "other", 5, ["a", "b"])
    mixed = renamed(home, tmp_path / "mixed", three)
    for part in ("images", "masks"):
        for file in (other / part).iterdir():
            shutil.copy(file, mixed / part)
    sentence = "3 of the 5 test images of protocol 'test-only' were trained on by .* such as 'x'"
    with pytest.raises(InputError, match=sentence):
        score(checkpoint, mixed, "test-only")


def test_an_image_that_chose_the_epoch_is_no_test_but_may_be_validated(
    checkpoint: Path, home: Path, tmp_path: Path
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    known = set(content["lightning_seg"]["images"]["val"])
    rest = trained_names(checkpoint, "other")
    moved = renamed(home, tmp_path / "rest", {id: f"q{id}" for id in rest})
    with pytest.raises(InputError, match=f"{len(known)} of the {len(rest)} test images .* chose"):
        score(checkpoint, moved, "test-only")
    score(checkpoint, home, "auto", "validate")


def test_other_pictures_of_the_same_names_are_scored(checkpoint: Path, tmp_path: Path) -> None:
    score(checkpoint, write_pictures(tmp_path / "twins", 1, NAMES), "test-only")


def test_each_external_test_has_a_folder_of_its_own(
    checkpoint: Path, home: Path, tmp_path: Path
) -> None:
    roots = [write_pictures(tmp_path / f"clinic{seed}", seed, NAMES) for seed in range(10, 15)]
    run = checkpoint.parents[1]
    before = set(run.glob("test-test-only*/*/summary.json"))
    for root in roots:
        score(checkpoint, root, "test-only")
    found = [
        Summary.read(file.parent)
        for file in set(run.glob("test-test-only*/*/summary.json")) - before
    ]
    assert sorted(each.data["root"] for each in found) == sorted(map(str, roots))
    assert len({each.data["digest"] for each in found}) == 5
    score(checkpoint, home)
    assert [folder.name for folder in run.glob("test-auto*")] == ["test-auto"]


def test_looks_are_counted_by_what_the_images_show(checkpoint: Path, tmp_path: Path) -> None:
    one, other = (write_pictures(tmp_path / name, 30, NAMES) for name in ("one", "copy"))
    third = write_pictures(tmp_path / "third", 31, NAMES)
    looks = []
    for root in (one, other, third):
        score(checkpoint, root, "test-only")
        run = checkpoint.parents[1]
        summaries = map(Summary.read, (f.parent for f in run.glob("test-*/*/summary.json")))
        looks += [each.looks for each in summaries if each.data["root"] == str(root)]
    assert looks == [1, 2, 1]


def test_compare_refuses_runs_whose_images_or_truths_differ(
    checkpoint: Path, tmp_path: Path
) -> None:
    roots = [write_pictures(tmp_path / name, 40, NAMES) for name in ("one", "other", "same")]
    file = roots[1] / "masks" / "p03.png"
    cv2.imwrite(str(file), np.full((16, 16), 255, np.uint8))
    tables = []
    for root in roots:
        score(checkpoint, root, "test-only")
        found = (f.parent for f in checkpoint.parents[1].glob("test-*/*/summary.json"))
        folder = next(each for each in found if Summary.read(each).data["root"] == str(root))
        tables.append(f"{root.name}={folder / 'scores.csv'}")
    sentence = (
        "of 20 images with the same names, 20 show the same picture and 19 have the same masks"
    )
    with pytest.raises(InputError, match=sentence):
        compare(tables[:2])
    compare([tables[0], tables[2], "--resamples", "100", "--score", "dice"])


def test_a_checkpoint_without_digests_falls_back_on_names_and_says_so(
    checkpoint: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    del content["lightning_seg"]["images"]
    torch.save(content, tmp_path / "old.ckpt")
    with pytest.raises(InputError, match=r"16 of the 20 test images .* were trained on by"):
        score(tmp_path / "old.ckpt", home, "test-only")
    capsys.readouterr()
    score(tmp_path / "old.ckpt", write_pictures(tmp_path / "new", 2, ["a", "b"]), "test-only")
    assert "was checked by their names alone" in capsys.readouterr().err


# --- without the command line ---


def training(**facts: Any) -> TrainedOn:
    data = {"dataset": "folder", "root": "/a", "dataset_options": None}
    known = {"protocol": "p", "protocol_digest": "1", "trained_on": ["a", "b"]} | facts
    return TrainedOn.read({"lightning_seg": known, "datamodule_hyper_parameters": data})


def images(split: str = "test", dataset: str = "folder", **more: Any) -> Fingerprint:
    contents = {id: Content(f"digest of {id}", "") for id in more.pop("ids", ["a", "c"])}
    known = {"root": "/a", "protocol": "p", "protocol_digest": "1", "options": {}} | more
    return Fingerprint(dataset=dataset, split=split, contents=contents, **known)


DIGESTS = {"train": ["digest of a"], "val": ["digest of v"]}


def test_a_picture_that_stands_twice_in_its_own_protocol_is_said() -> None:
    here = images()
    found = training(images=DIGESTS, decoders=here.decoders)
    assert found.check(here, "x") == "1 test image also in training or validation, pixel for pixel"
    with pytest.raises(InputError, match="1 of the 2 test images"):
        found.check(images(protocol_digest="2"), "x")


def test_names_count_where_another_library_decoded_the_images() -> None:
    digests = {"train": ["other"], "val": ["another"]}
    found = training(images=digests, decoders="pillow 1")
    with pytest.raises(InputError, match=r"1 of the 2 test images .* were trained on"):
        found.check(images(), "x")
    assert "decoded its images with pillow 1" in found.check(images(ids=["c"], root="/b"), "x")


def test_images_of_a_subset_that_were_trained_on_are_not_tested_on() -> None:
    whole, part = load_protocol("kvasir-unet-a-v2"), load_protocol("kvasir-sessile")
    found = TrainedOn.read(
        {
            "lightning_seg": {"protocol": whole.name, "trained_on": whole.ids["train"]},
            "datamodule_hyper_parameters": {"dataset": "kvasir_seg"},
        }
    )
    with pytest.raises(InputError, match=r"of the 20 test images .* were trained on"):
        found.check(images(dataset="kvasir_sessile", ids=part.ids["test"]), "x")


@pytest.mark.parametrize(
    "change", [{"root": "/b"}, {"options": {"mask_threshold": 1}}, {"dataset": "drive"}]
)
def test_home_is_the_same_data_read_alike(change: dict[str, Any]) -> None:
    assert training().is_home(images())
    assert not training().is_home(images(**change))


@pytest.mark.parametrize(
    ("dataset", "recorded", "expected"),
    [
        ("kvasir_seg", "kvasir-unet-a", "kvasir-unet-a"),
        ("kvasir_seg", "kvasir-unet-a-v2", None),
        ("drive", "drive", None),
        ("somewhere:Else", "p", None),
    ],
)
def test_a_checkpoint_keeps_the_protocol_that_was_the_default_when_it_was_written(
    tmp_path: Path, dataset: str, recorded: str, expected: str | None
) -> None:
    content = {
        "state_dict": {},
        "hyper_parameters": {"architecture": "unet"},
        "datamodule_hyper_parameters": {"dataset": dataset, "protocol": None},
        "lightning_seg": {"protocol": recorded},
    }
    torch.save(content, tmp_path / "x.ckpt")
    read = read_checkpoint(tmp_path / "x.ckpt")
    assert read["datamodule_hyper_parameters"]["protocol"] == expected


def resume(checkpoint: Path, *options: str) -> None:
    """Go on from the checkpoint of a run for one more epoch."""
    run = checkpoint.parents[1]
    arguments = [f"--config={run / 'config.yaml'}", f"--ckpt_path={checkpoint}"]
    cli.run(["fit", *arguments, "--trainer.max_epochs=2", f"--runs={run.parents[1]}", *options])


@pytest.fixture
def own_run(checkpoint: Path, tmp_path: Path) -> Path:
    """The checkpoint in a copy of its run, without scores that other tests left there."""
    target = tmp_path / "runs" / "small" / "version_0"
    shutil.copytree(checkpoint.parents[1], target, ignore=shutil.ignore_patterns("test*"))
    return target / "checkpoints" / checkpoint.name


def test_a_training_that_goes_on_otherwise_says_every_setting_that_changed(
    own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resume(own_run, "--data.batch_size=8", "--seed_everything=7", "--data.copies=2")
    told = capsys.readouterr().out
    assert "data.batch_size was 4 and is 8 now" in told
    assert "data.seed was 42 and is 7 now" in told
    assert "data.copies was 1 and is 2 now" in told


def test_a_training_that_goes_on_as_it_was_says_nothing_of_settings_or_masks(
    own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resume(own_run)
    told = capsys.readouterr().out
    assert "epoch 2 of 2" in told
    assert "no longer of one recipe" not in told
    assert "are others than before" not in told


def test_a_training_that_goes_on_with_other_masks_of_the_same_images_says_so(
    own_run: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(home, changed)
    for id in trained_names(own_run)[:3]:
        file = changed / "masks" / f"{id}.png"
        mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(file), np.roll(mask, 3, axis=0))
    resume(own_run, f"--data.root={changed}")
    told = capsys.readouterr().out
    assert "the masks of 3 of 16 training images are others than before" in told
    assert "validation images are others" not in told


def test_scores_say_that_masks_are_read_otherwise_than_in_training() -> None:
    trained = TrainedOn("folder", "/d", {"labels": [1, 2]}, "auto", "", frozenset(), None, "")
    data = Fingerprint("folder", "/d", {"labels": [2, 1]}, "auto", "", "test", {})
    assert trained.read_otherwise(data) == "labels is [2, 1] and was [1, 2]"
    told = list(Summary(read_otherwise=trained.read_otherwise(data)).cautions())
    assert any("masks are read otherwise than in training" in text for text in told)
    same = Fingerprint("folder", "/d", {"labels": [1, 2], "in_channels": 1}, "auto", "", "test", {})
    elsewhere = Fingerprint("folder", "/e", {"labels": [2, 1]}, "auto", "", "test", {})
    assert not trained.read_otherwise(same)
    assert not trained.read_otherwise(elsewhere)


def test_what_a_training_was_resumed_with_otherwise_stands_in_its_scores_and_its_report(
    own_run: Path, home: Path
) -> None:
    resume(own_run, "--data.batch_size=8")
    told = "RESUMED OTHERWISE: data.batch_size was 4 and is 8 now"
    runs = own_run.parents[3]
    last = next(runs.glob("config/version_0/checkpoints/last*.ckpt"))
    # once more, with nothing changed: what was said stays
    config = last.parents[1] / "config.yaml"
    cli.run(
        [
            "fit",
            f"--config={config}",
            f"--ckpt_path={last}",
            "--trainer.max_epochs=3",
            f"--runs={runs}",
        ]
    )
    newest = next(runs.glob("config/version_*/checkpoints/last-epoch=003.ckpt"))
    content = read_checkpoint(newest)
    assert any(text.startswith(told) for text in run_cautions(content, None))
    score(newest, home)
    summary = next(newest.parents[1].glob("test-*/*/summary.json")).parent
    assert Summary.read(summary).changed.startswith(told)
    assert any(text.startswith(told) for text in Summary.read(summary).cautions())
    assert not run_cautions(read_checkpoint(own_run), None)[1:]


def test_other_pictures_under_the_ids_of_the_training_are_said(
    own_run: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(home, moved)
    score(own_run, moved)
    assert "OTHER IMAGES" not in capsys.readouterr().out
    other = write_pictures(tmp_path / "other", 1, NAMES)
    score(own_run, other)
    told = " ".join(capsys.readouterr().out.split())
    assert f"OTHER IMAGES: 5 of 5 training and validation images looked for in {other}" in told
    assert "scores of another data set" in told


def test_test_pictures_that_were_replaced_since_earlier_scores_are_said(
    own_run: Path, home: Path, tmp_path: Path
) -> None:
    score(own_run, home)
    folder = next(own_run.parents[1].glob("test-*/*/summary.json")).parent
    assert not Summary.read(folder).other_images
    tested = list(Summary.read(folder).data["contents"])
    files = [home / "images" / f"{id}.png" for id in tested]
    kept = [file.read_bytes() for file in files]
    other = write_pictures(tmp_path / "other", 1, NAMES)
    try:
        for file in files:
            shutil.copy(other / "images" / file.name, file)
        score(own_run, home)
    finally:
        for file, content in zip(files, kept, strict=True):
            file.write_bytes(content)
    told = Summary.read(folder).other_images
    assert "since the scores that lay here before, they were replaced" in told
    assert f"of {len(tested)} images with the same names, 0 show the same picture" in told
