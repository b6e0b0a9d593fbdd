"""`lightning-seg score`: foreign predictions get the scores that the same masks get anywhere else."""

import html
import json
import re
import shlex
import shutil
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from experiments.leaderboard.__main__ import main as leaderboard
from experiments.record import main as record
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable
from lightning_seg.evaluation.summary import Summary
from lightning_seg.reports.comparison import main as compare
from lightning_seg.reports.run_page import main as report
from lightning_seg.reports.scored_files import main as score

OPTIONS = {"resolution": 48}
IDS = [f"polyp-{index:04d}" for index in range(6)]
POLYPS = ["--dataset", "phantom_polyp", "--dataset_options", json.dumps(OPTIONS)]


@pytest.fixture
def polyps(tmp_path, monkeypatch):
    """id -> true mask (H, W) of six phantoms that test, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{id},test" for id in IDS]
    head = "# name: six\n# version: 1\n# rule: the first six\nid,split\n"
    (tmp_path / "six.csv").write_text(head + "\n".join(rows) + "\n")
    data = SegmentationDataModule(
        "phantom_polyp", protocol="six.csv", size=None, dataset_options=OPTIONS
    )
    return {id: data.source.read(id).mask[..., 0] for id in data.ids("test")}


def shifted(mask):
    return np.roll(mask, 3, axis=1)


def dice(prediction, truth):
    together = prediction.sum() + truth.sum()
    return 2 * (prediction & truth).sum() / together if together else 1.0


def dices(table):
    tp, fp, fn, _ = table.of("polyp").T
    return [2 * t / (2 * t + w) if t + w else 1.0 for t, w in zip(tp, fp + fn, strict=True)]


def scored(name):
    (table,) = (ScoreTable.read(file) for file in _folder(name).glob("scores.csv"))
    return table


def _folder(name):
    (found,) = Path("runs", name, "version_0").glob("*/files-*")
    return found


def write_masks(folder, masks, pattern="{}.png", value=255):
    for id, mask in masks.items():
        file = folder / pattern.format(id)
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), mask * value)


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("{}.png", 255),  # plain scripts, and this package's own predict
        ("out/{}_mask.png", 1),
        ("{}.png", 1),  # nnU-Net and MMSegmentation: label maps
        ("{0}/{0}_seg.png", 255),  # MONAI: a folder for each image
        ("masks/polyp/{}.bmp", 255),
    ],
)
def test_masks_are_found_under_any_pattern_and_scored_as_they_are(polyps, tmp_path, pattern, value):
    masks = {id: shifted(mask) for id, mask in polyps.items()}
    write_masks(tmp_path / "theirs", masks, pattern, value)
    score(["theirs", *POLYPS, "--protocol", "six.csv", "--name", "theirs"])
    table = scored("theirs")
    assert table.ids == tuple(polyps)
    expected = [dice(masks[id] > 0, polyps[id] > 0) for id in polyps]
    assert dices(table) == pytest.approx(expected)
    summary = Summary.read(_folder("theirs"))
    assert summary.predictions == str(tmp_path / "theirs")
    assert summary.looks == 1
    assert any("SCORED FROM FILES" in caution for caution in summary.cautions())


@pytest.mark.parametrize("kind", ["npy", "npz of nnU-Net", "PNG of 16 bits", "logits"])
def test_probabilities_are_cut_at_the_threshold_and_measured(polyps, tmp_path, kind):
    (tmp_path / "theirs").mkdir()
    rng = np.random.default_rng(0)
    more = []
    maps = {}
    for id, mask in polyps.items():
        maps[id] = np.clip(0.2 + 0.6 * mask + 0.3 * rng.random(mask.shape), 0, 1).astype("float32")
        file = tmp_path / "theirs" / id
        if kind == "npy":
            np.save(f"{file}.npy", maps[id][None])
        elif kind == "npz of nnU-Net":
            np.savez(f"{file}.npz", probabilities=np.stack([1 - maps[id], maps[id]])[:, None])
        elif kind == "logits":
            maps[id] = np.clip(maps[id], 0.01, 0.99)
            np.save(f"{file}.npy", np.log(maps[id] / (1 - maps[id])))
            more = ["--values", "logit"]
        else:
            cv2.imwrite(f"{file}.png", np.rint(maps[id] * 65535).astype(np.uint16))
            more = ["--values", "probability"]
    given = ["theirs", *POLYPS, "--protocol", "six.csv", "--name", "theirs"]
    score([*given, "--threshold", "0.4", *more])
    table = scored("theirs")
    expected = [dice(maps[id] > 0.4, polyps[id] > 0) for id in polyps]
    assert dices(table) == pytest.approx(expected, abs=1e-3)
    brier = [((maps[id] - polyps[id]) ** 2).mean() for id in polyps]
    assert table.measures["brier"][:, 0].tolist() == pytest.approx(brier, abs=1e-4)


def test_classes_are_channels_files_or_label_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    truth = {f"a{index}": rng.integers(0, 3, (20, 30), dtype=np.uint8) for index in range(4)}
    theirs = {id: np.roll(labels, 1, 0) for id, labels in truth.items()}
    write_masks(tmp_path / "truth", truth, value=1)
    write_masks(tmp_path / "labels", theirs, "{}_pred.png", value=1)
    for number, name in enumerate(("liver", "tumor"), 1):
        masks = {id: (labels == number).astype(np.uint8) for id, labels in theirs.items()}
        write_masks(tmp_path / "files", masks, name + "/{}.png")
    (tmp_path / "channels").mkdir()
    for id, labels in theirs.items():
        np.save(tmp_path / "channels" / f"{id}.npy", np.eye(3, dtype=np.uint8)[labels])
    for name in ("labels", "files", "channels"):
        score([name, "truth", "--classes", "liver", "tumor", "--name", name])
    tables = [scored(name) for name in ("labels", "files", "channels")]
    expected = [[[((theirs[id] == n) & (truth[id] == n)).sum() for n in (1, 2)] for id in truth]]
    for table in tables:
        assert table.classes == ("liver", "tumor")
        assert table.counts[..., 0].tolist() == expected[0]


def test_what_is_missing_extra_or_of_another_size_is_said(polyps, tmp_path, capsys):
    write_masks(tmp_path / "theirs", polyps)
    first, second, third, *_ = polyps
    (tmp_path / "theirs" / f"{first}.png").unlink()
    doubled = np.kron(polyps[second], np.ones((2, 2), np.uint8))
    write_masks(tmp_path / "theirs", {second: doubled, "other": polyps[third]})
    given = ["theirs", *POLYPS, "--protocol", "six.csv", "--name", "theirs"]
    with pytest.raises(InputError, match=rf"1 of 6 images have no prediction \({first}\)"):
        score(given)
    alike = tmp_path / "theirs" / f"{first.upper()} .png"
    write_masks(tmp_path / "theirs", {alike.stem: polyps[first]})
    with pytest.raises(InputError, match="differ by capitals or spaces alone"):
        score([*given, "--missing", "empty"])
    alike.unlink()
    score([*given, "--missing", "empty"])
    said = capsys.readouterr().err
    assert "1 (other.png)" in said
    assert "1 prediction had another size" in said
    assert "they count as empty" in said
    tp, fp, fn, _ = scored("theirs").of("polyp").T
    assert (tp[0], fp[0]) == (0, 0)
    assert (fp[1:] + fn[1:]).tolist() == [0] * 5


def test_images_of_several_sizes_are_scored_each_at_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    sizes = {"a": (20, 30), "b": (31, 22), "c": (16, 16)}
    masks = {id: rng.integers(0, 2, size, dtype=np.uint8) for id, size in sizes.items()}
    pictures = {id: rng.integers(0, 256, size, dtype=np.uint8) for id, size in sizes.items()}
    write_masks(tmp_path / "masks", masks)
    write_masks(tmp_path / "images", pictures, value=1)
    theirs = {id: np.roll(mask, 1, 0) for id, mask in masks.items()}
    write_masks(tmp_path / "theirs", theirs)
    rows = [f"{id},images/{id}.png,masks/{id}.png,test" for id in sizes]
    (tmp_path / "own.csv").write_text("\n".join(["id,image,mask,split", *rows]) + "\n")
    own = {"root": "own.csv", "protocol": "auto"}
    options = [word for key, value in own.items() for word in (f"--{key}", value)]
    score(["theirs", "--dataset", "folder", *options, "--name", "sized"])
    expected = [dice(theirs[id], masks[id]) for id in sizes]
    tp, fp, fn, _ = scored("sized").counts[:, 0].T
    assert 2 * tp / (2 * tp + fp + fn) == pytest.approx(expected)
    data = SegmentationDataModule("folder", size=16, **own)
    assert Summary.read(_folder("sized")).data["digest"] == data.fingerprint("test").digest


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.full((48, 48), np.nan), "NaN or infinity"),
        (np.full((48, 48), 3.7), "logits need --values logit"),
        (np.arange(48 * 48, dtype=np.int64).reshape(48, 48), "2,304 values"),
        (np.zeros((5, 48, 48)), "the shape"),
        (np.array([{"a": 1}], dtype=object), "no array of numbers"),
    ],
)
def test_what_is_no_prediction_is_refused(polyps, tmp_path, array, sentence):
    (tmp_path / "theirs").mkdir()
    for id in polyps:
        np.save(tmp_path / "theirs" / f"{id}.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=sentence):
        score(["theirs", *POLYPS, "--protocol", "six.csv", "--name", "theirs"])


def test_a_number_that_changes_from_mask_to_mask_is_no_class(polyps, tmp_path):
    write_masks(tmp_path / "out", polyps, value=1)
    write_masks(tmp_path / "out", {IDS[3]: polyps[IDS[3]]}, value=2)
    with pytest.raises(InputError, match=r"0003\.png marks its class by 2, and .*\d\.png by 1"):
        score(["out", *POLYPS, "--protocol", "six.csv", "--name", "mixed"])


def test_rows_and_columns_that_were_exchanged_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 5:22] = 1
    write_masks(tmp_path / "truth", {"a": mask})
    write_masks(tmp_path / "out", {"a": mask.T})
    with pytest.raises(InputError, match="30 rows and 20 columns, and its truth 20 rows and 30"):
        score(["out", "truth", "--name", "turned"])


@pytest.mark.parametrize(
    ("paint", "told"),
    [
        (lambda mask: 1 - mask, "warning: in most predictions the class fills the rim"),
        (np.ones_like, "warning: in 6 of 6 predictions a class covers over 90% of the picture"),
        (lambda mask: mask, "warning: every prediction equals its truth, pixel by pixel"),
        (shifted, ""),
    ],
)
def test_strange_predictions_are_told(polyps, tmp_path, capsys, paint, told):
    write_masks(tmp_path / "out", {id: paint(mask) for id, mask in polyps.items()})
    score(["out", *POLYPS, "--protocol", "six.csv", "--name", "strange"])
    warnings = capsys.readouterr().err
    assert told in warnings
    assert ("warning" in warnings) == bool(told)


def test_true_masks_that_seem_inverted_are_told(polyps, tmp_path, capsys):
    for folder in ("truth", "out"):
        write_masks(tmp_path / folder, {id: 1 - mask for id, mask in polyps.items()})
    score(["out", "truth", "--name", "inverted"])
    assert "warning: in most true masks the class fills the rim" in capsys.readouterr().err


@pytest.mark.parametrize("values", ["logit", "auto"])
def test_a_softmax_with_the_background_is_taken_by_its_most_probable_class(
    tmp_path, monkeypatch, values
):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    logits = random.normal(0, 1, (3, 16, 20))
    powers = np.exp(logits)
    probability = powers / powers.sum(0)
    labels = random.integers(0, 3, (16, 20)).astype(np.uint8)
    for folder in ("truth", "out"):
        (tmp_path / folder).mkdir()
    cv2.imwrite("truth/a.png", labels)
    shown = logits if values == "logit" else probability
    np.save("out/a.npy", shown.astype(np.float32))
    score(["out", "truth", "--classes", "one", "two", "--name", "soft", "--values", values])
    tp, fp, fn, _ = np.moveaxis(scored("soft").counts[0], -1, 0)
    chosen = logits.argmax(0)
    for place, number in enumerate((1, 2)):
        predicted, true = chosen == number, labels == number
        expected = [(predicted & true).sum(), (predicted & ~true).sum(), (~predicted & true).sum()]
        assert [tp[place], fp[place], fn[place]] == expected


def test_several_files_of_an_image_are_not_chosen_from(polyps, tmp_path):
    write_masks(tmp_path / "theirs", polyps, "a/{}.png")
    write_masks(tmp_path / "theirs", {id: shifted(mask) for id, mask in polyps.items()}, "b/{}.png")
    given = ["theirs", *POLYPS, "--protocol", "six.csv", "--name", "theirs"]
    with pytest.raises(InputError, match=r"several files each: a/\{id\}.png, b/\{id\}.png"):
        score(given)
    score([*given, "--pattern", "a/{id}.png"])
    assert scored("theirs").counts[..., 1:3].sum() == 0


def test_scores_of_files_are_recorded_as_such(polyps, tmp_path):
    write_masks(tmp_path / "theirs", polyps)
    score(["theirs", *POLYPS, "--protocol", "six.csv", "--name", "nnunet"])
    record(["runs/nnunet", "--results", "results"])
    (facts,) = (tmp_path / "results" / "scores").glob("*/*.json")
    kept = json.loads(facts.read_text())
    assert (kept["architecture"], kept["inference"]) == ("nnunet", "scored from files")


def test_scores_of_files_stand_in_compare_report_and_leaderboard_marked_so(
    polyps, tmp_path, capsys
):
    """Images without a polyp in which both find none have no Dice, and stop no comparison."""
    assert any(not truth.any() for truth in polyps.values())
    write_masks(tmp_path / "a", polyps)
    write_masks(tmp_path / "b", {id: shifted(truth) for id, truth in polyps.items()})
    given = [*POLYPS, "--protocol", "six.csv", "--threshold", "0.4"]
    score(["a", *given, "--name", "tools/a"])
    score(["b", *given, "--name", "tools/b"])
    capsys.readouterr()
    compare(["runs/tools/a", "runs/tools/b", "--score", "dice"])
    said = capsys.readouterr().out
    assert said.count("SCORED FROM FILES") == 2
    assert "image, empty" in said
    report(["runs/tools/b"])
    page = Path("runs/tools/b/version_0/report.html").read_text(encoding="utf-8")
    assert f"SCORED FROM FILES ({tmp_path / 'b'})" in page
    assert "not known here" in page
    assert "Dice of every image" in page
    command = re.search(r"<pre[^>]*>(.*)</pre>", page)[1]
    # a protocol of one's own is named, not where its file lies
    words = [{"six": "six.csv"}.get(word, word) for word in shlex.split(html.unescape(command))]
    before = scored("tools/b").counts
    shutil.rmtree("runs/tools/b")
    score(words[2:])
    assert np.array_equal(scored("tools/b").counts, before)
    record(["runs/tools/a", "runs/tools/b", "--results", "results"])
    leaderboard(["--results", "results"])
    board = Path("results/LEADERBOARD.md").read_text(encoding="utf-8")
    assert "a, scored from files" in board
    assert "b, scored from files" in board


def test_volumes_of_scans_are_scored_slice_by_slice(tmp_path, monkeypatch):
    """The labels of a truth, written as another tool's volumes turned another way, are right."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for folder in ("data", "theirs"):
        (tmp_path / folder).mkdir()
    ids = ("volume-0", "volume-1")
    for number in range(2):
        labels = rng.integers(0, 3, (10, 12, 4), dtype=np.uint8)
        affine = np.diag([1.0, 1.0, 2.0, 1.0])
        scan = rng.integers(-100, 100, labels.shape).astype(np.int16)
        nibabel.Nifti1Image(scan, affine).to_filename(f"data/volume-{number}.nii")
        mask = nibabel.Nifti1Image(labels, affine)
        mask.to_filename(f"data/segmentation-{number}.nii")
        turned = mask.as_reoriented(np.array([[0, -1], [1, 1], [2, -1]]))
        turned.to_filename(f"theirs/volume-{number}.nii.gz")
    rows = "".join(f"{id},test\n" for id in ids)
    (tmp_path / "two.csv").write_text("# name: two\n# version: 1\n# rule: two\nid,split\n" + rows)
    lits = ["--dataset", "lits", "--root", "data", "--protocol", "two.csv"]
    score(["theirs", *lits, "--name", "right"])
    table = scored("right")
    assert len(table.ids) == 8
    assert table.counts[..., 1:3].sum() == 0
    assert table.counts[..., 0].min() > 0


def test_volume_in_place_of_a_picture_is_refused(polyps):
    """One slice as NIfTI does not say which axis its rows are."""
    Path("theirs").mkdir()
    for id, mask in polyps.items():
        nibabel.Nifti1Image(mask[..., None], np.eye(4)).to_filename(f"theirs/{id}_seg.nii.gz")
    with pytest.raises(InputError, match=r"polyp-0000 is a volume, .* write .* as PNG or NPY"):
        score(["theirs", *POLYPS, "--protocol", "six.csv", "--name", "volumes"])
