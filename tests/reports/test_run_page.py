"""The report of one run, made of a real tiny one."""

import base64
import dataclasses
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lightning_seg import cli
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.show import COLOURS
from lightning_seg.data.sources.folder import Folder
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable, Summary, per_image, pooled
from lightning_seg.reports.run_page import main, report
from lightning_seg.reports.run_page._figures import dice_by_threshold
from lightning_seg.reports.run_page._findings import _overfits
from lightning_seg.reports.run_page._gallery import SIDE, _scored_sample, choose
from lightning_seg.reports.run_page._images import images_table
from lightning_seg.reports.run_page._run import ScoredSplit, _is_of, open_run
from lightning_seg.reports.run_page._sizes import by_size
from lightning_seg.training.module import SegmentationModule

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")  # runs are copied
VOID = {"meta", "img", "link", "br", "input", "hr"}
RECIPE = {
    "trainer": {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "log_every_n_steps": 1,
        "max_epochs": 2,
    },
    "data": {
        "dataset": "phantom_polyp",
        "size": 32,
        "batch_size": 4,
        "dataset_options": {"resolution": 32},
    },
    "model": {"architecture": "attention_unet", "options": {"widths": [4, 8, 16]}, "lr": 0.01},
}


class Page(HTMLParser):
    """The elements of a page, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    rows = [f"polyp-{i:04d},{'train' if i < 8 else 'val' if i < 16 else 'test'}" for i in range(36)]
    (folder / "tiny.csv").write_text(
        "# name: tiny\n# version: 1\n# rule: the first 36\nid,split\n" + "\n".join(rows) + "\n"
    )
    content = RECIPE | {
        "data": RECIPE["data"] | {"protocol": str(folder / "tiny.csv")},
        "runs": str(folder),
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content))
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def trained(recipe):
    """runs/<name> of a run that was trained, and no more."""
    cli.run(["fit", "-c", str(recipe)])
    return recipe.parent / "tiny"


@pytest.fixture(scope="module")
def validated(recipe, trained):
    place = recipe.parent / "validated"
    shutil.copytree(trained, place)
    cli.run(["validate", "-c", str(recipe), "--name", "validated", "--ckpt_path", "best"])
    return place


@pytest.fixture(scope="module")
def tested(recipe, validated):
    place = recipe.parent / "tested"
    shutil.copytree(validated, place)
    cli.run(["test", "-c", str(recipe), "--name", "tested", "--ckpt_path", "best"])
    return place


@pytest.fixture(scope="module")
def run(tested):
    return open_run(tested)


@pytest.fixture(scope="module")
def page(run):
    return Page(report(run))


def result(run, split):
    return next(result for result in run.results if result.summary.split == split)


def examples(page):
    return [
        attrs["alt"].partition(":")[0]
        for attrs in page.all("img")
        if attrs["alt"].endswith(": prediction")
    ]


def test_the_page_needs_nothing_but_itself(page):
    for tag, attrs in page.elements:
        assert tag not in ("link", "iframe")
        for key in ("src", "href"):
            assert attrs.get(key, "#").startswith(("#", "data:image/webp;base64,")), attrs[key][:60]
    targets = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    links = {attrs["href"][1:] for attrs in page.all("a")}
    assert links
    assert links <= targets


def test_every_image_stands_in_a_table_that_can_be_sorted(run, page):
    assert len([each for each in page.all("table") if each.get("class") == "sortable"]) == 1
    scores = result(run, "test").table
    dice = per_image(scores.of("polyp"), "dice")
    found = images_table(scores, "polyp")
    assert found.header[:3] == ("image", "dice", "iou")
    assert [id for id, _ in found.rows] == [
        scores.ids[row] for row in np.argsort(dice, kind="stable")
    ]
    assert [cells[0].sort for _, cells in found.rows] == sorted(dice.tolist())
    assert {"hd95", "mae"} <= set(found.falling)
    assert all(f"{value:.3f}" in page.text for value in dice)


def test_the_curve_of_thresholds_gives_the_score_at_its_threshold(run):
    table = result(run, "test").table
    histogram = run.histogram("polyp", result(run, "test"))
    shown = dice_by_threshold(histogram, "polyp", 0.5, test=True)
    expected = float(pooled(table.of("polyp"), "dice"))
    assert f"threshold 0.5, as scored: {expected:.3f}" in shown.key[0][1]
    assert "would flatter" in shown.caption
    assert "would flatter" not in dice_by_threshold(histogram, "polyp", 0.5, test=False).caption


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (np.linspace(0.5, 0.95, 30), np.r_[np.linspace(0.5, 0.7, 15), np.full(15, 0.65)], True),
        (np.linspace(0.5, 0.95, 30), np.linspace(0.4, 0.8, 30), False),  # validation still gains
        (np.linspace(0.5, 0.95, 6), np.linspace(0.5, 0.4, 6), False),  # too short to say
    ],
)
def test_only_curves_that_part_are_said_to_overfit(ours, theirs, said):
    epochs = np.arange(len(ours)) + 1.0
    assert _overfits((epochs, ours), (epochs, theirs)) is said


def test_pictures_and_plots_say_what_they_show_and_tables_have_headers(page):
    assert all(attrs["alt"] for attrs in page.all("img"))
    plots = [attrs for attrs in page.all("svg") if attrs.get("aria-hidden") != "true"]
    assert len(plots) >= 6
    assert all(len(attrs["aria-label"]) > 20 for attrs in plots)
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.all("th"))


def test_the_header_names_what_the_scores_depend_on(run, page):
    digest = result(run, "test").summary.protocol_digest
    for words in (
        "attention_unet widths=[4, 8, 16]",
        f"tiny, digest {digest}",
        "phantom_polyp, 32 x 32 pixels",
        "seed 42",
        "none: trained from scratch",
        "SYNTHETIC data",
        run.checkpoint.name,
    ):
        assert words in page.text


def test_every_score_stands_there_with_its_interval(run, page):
    for split in ("test", "val"):
        for values in result(run, split).summary.scores["polyp"].values():
            for convention in ("image", "pooled"):
                low, high = values[convention].interval
                assert f"{values[convention].value:.3f} {low:.3f} - {high:.3f}" in page.text
    assert f"{result(run, 'test').summary.measures['polyp']['hd95'].value:.2f}" in page.text


def test_the_gallery_holds_the_worst_median_and_best_images_of_the_test(run, page):
    table = result(run, "test").table
    dice = per_image(table.of("polyp"), "dice")
    seen = table.counts[:, 0, :3].sum(1) > 0
    order = [
        id
        for _, id in sorted(
            zip(dice[seen], np.array(table.ids)[seen], strict=True), key=lambda p: p[0]
        )
    ]
    each = min(4, len(order) // 3)
    shown = examples(page)
    assert shown[:each] == order[:each]
    assert shown[-each:] == order[-each:]
    assert set(shown[each:-each]) <= set(order[each:-each])
    assert len(page.all("img")) == 4 * len(shown)  # image, truth, prediction, attention
    assert "in agreement with the stored scores" in page.text


def test_the_pictures_of_the_gallery_are_the_image_and_its_masks(run, page):
    """Pixel by pixel but for WebP's loss: what lies under no mask is the image, in each of them."""
    data = SegmentationDataModule(**run.data)
    module = SegmentationModule.load(run.checkpoint)
    shown = {each["alt"]: picture_of(each["src"]) for each in page.all("img")}
    for id in examples(page):
        item = SegmentationDataset(data.source, [id], (32, 32), None)[0]
        image = item["image"].permute(1, 2, 0).numpy()
        expected = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        assert abs(shown[f"{id}: image"] - expected.astype(int)).mean() < 4
        with torch.inference_mode():
            found = module(item["image"][None]).logits[0, 0].numpy() > 0
        for title, mask in (("truth", item["mask"][0].numpy() > 0), ("prediction", found)):
            both = mask | (
                item["mask"][0].numpy() > 0
            )  # the truth's outline lies on the prediction
            within, near = enlarged(mask), cv2.dilate(enlarged(both), np.ones((9, 9))) > 0
            inside = cv2.erode(within, np.ones((9, 9))) > 0
            inside &= cv2.erode(enlarged(mask == both), np.ones((9, 9))) > 0
            tinted = 0.7 * expected + 0.3 * np.array(COLOURS[0])
            off = abs(shown[f"{id}: {title}"] - expected.astype(int)).mean(-1)
            assert near.all() or off[~near].mean() < 4, title
            if inside.any():
                assert abs(shown[f"{id}: {title}"] - tinted).mean(-1)[inside].mean() < 8, title


def picture_of(uri):
    content = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def enlarged(mask):
    size = (SIDE, SIDE)
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)


def test_a_run_that_was_only_validated_shows_no_test_image(validated, recipe):
    page = Page(report(open_run(validated)))
    assert "Not tested" in page.text
    assert {int(id.removeprefix("polyp-")) for id in examples(page)} <= set(range(8, 16))


def test_a_run_without_scores_has_its_curves_and_says_what_to_do(trained):
    page = Page(report(open_run(trained)))
    assert "no per-image scores, so no intervals" in page.text
    assert "`lightning-seg test` or `validate` does it" in page.text
    assert not page.all("img")
    labels = " ".join(attrs.get("aria-label", "") for attrs in page.all("svg"))
    assert all(
        words in labels
        for words in ("Loss by epoch", "Learning rate", "Precision against recall", "Reliability")
    )


def test_another_folder_is_an_external_test_by_its_own_name(run):
    other = {"dataset": "folder", "protocol": "auto", "protocol_digest": "0" * 12}
    [result, *_] = run.results
    moved = result.summary.data | {"root": "/elsewhere/clinic"}
    same = dataclasses.replace(result.summary, data=moved)
    assert not run.is_external(result._replace(summary=same))
    tested = dataclasses.replace(same, **other)
    settings = run.data | {"dataset": "folder", "root": "/here/ward", "protocol": "auto"}
    content = run.content | {"datamodule_hyper_parameters": settings}
    shown = dataclasses.replace(run, content=content, results=[result._replace(summary=tested)])
    assert shown.is_external(shown.results[0])
    assert "clinic (folder), auto" in Page(report(shown, predictions=False)).text


def test_the_gallery_can_be_left_out_and_is_where_data_are_absent(run, monkeypatch):
    assert not Page(report(run, predictions=False)).all("img")
    monkeypatch.delenv("LIGHTNING_SEG_DATA", raising=False)
    absent = {"dataset": "kvasir_seg", "root": None, "protocol": "kvasir-unet-a", "size": 32}
    results = [
        r._replace(summary=dataclasses.replace(r.summary, dataset="kvasir_seg"))
        for r in run.results
    ]
    elsewhere = dataclasses.replace(
        run,
        results=results,
        content=run.content | {"datamodule_hyper_parameters": run.data | absent, "dataset": None},
    )
    elsewhere.content["datamodule_hyper_parameters"]["dataset_options"] = None
    page = Page(report(elsewhere))
    assert not page.all("img")
    assert (
        "Images could not be read: kvasir_seg: no root is given and LIGHTNING_SEG_DATA is not set"
        in page.text
    )


def test_an_image_of_the_scores_that_the_data_lack_is_named(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), np.zeros((32, 32), np.uint8))
    source = Folder(tmp_path, classes=["polyp"])
    assert _scored_sample(source, "a", (32, 32))["image"].shape == (3, 32, 32)
    with pytest.raises(InputError, match="the data set holds no 'gone', which the table of scores"):
        _scored_sample(source, "gone", (32, 32))


def test_curves_count_epochs_once_and_validate_adds_no_point(run):
    epochs, values = run.events.by_epoch("val/dice")
    assert epochs.tolist() == [1, 2]
    assert f"{values.max():.4f}" == run.checkpoint.stem.partition("dice=")[2]
    assert 0 not in run.events.scalars["val/dice"][0]


def test_the_probabilities_are_those_of_the_scored_pixels(run, trained):
    for split in ("test", "val"):
        table = result(run, split).table
        histogram = run.histogram("polyp", result(run, split))
        above, counts = histogram[:, 128:].sum(1), table.of("polyp").sum(0)
        assert above.tolist() == [counts[1], counts[0]]
        assert histogram.sum() == counts.sum()
    other = ScoredSplit(
        Summary(split="test"),
        dataclasses.replace(table, counts=table.counts[..., ::-1]),
        run.folder,
    )
    assert run.histogram("polyp", other) is None
    own = open_run(trained)
    assert (own.histogram("polyp", None) == run.histogram("polyp", result(run, "val"))).all()


def test_the_commands_make_the_run_and_its_scores_again(run, recipe):
    where = f"--name tested --runs {recipe.parent}"
    text = Page(report(run, predictions=False)).text
    assert f"lightning-seg fit -c {recipe} lightning-seg test {where} --ckpt_path best" in text
    assert f"commit {run.environment['sittings'][0]['commit']}" in text
    text = Page(report(dataclasses.replace(run, environment={}), predictions=False)).text
    assert f"lightning-seg fit -c config.yaml {where}" in text
    sitting = {"commit": "abc1234-dirty", "cpu": "a processor", "minutes": 2.0, "devices": 1}
    elsewhere = {"command": ["fit", "-c", "my recipe.yaml"], "sittings": [sitting]}
    text = Page(report(dataclasses.replace(run, environment=elsewhere), predictions=False)).text
    assert "git checkout abc1234 lightning-seg fit -c 'my recipe.yaml'" in text
    assert "commit abc1234-dirty" in text
    assert "hardware a processor" in text


def test_the_command_writes_the_page_into_the_run_or_where_it_is_told(tested, tmp_path, capsys):
    main([str(tested / "version_0"), "--no-predictions"])
    written = (tested / "version_0" / "report.html").read_text(encoding="utf-8")
    main([str(tested), "--no-predictions", "--output", str(tmp_path / "a.html"), "--ckpt", "last"])
    assert "There is none. It was left out by --no-predictions." in written
    assert (tmp_path / "a.html").is_file()
    assert str(tmp_path / "a.html") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere"], "there is no checkpoint or run 'nowhere'"),
        (["{trained}", "--ckpt", "worst.ckpt"], "there is no checkpoint 'worst.ckpt'"),
        (["{trained}", "--ckpt", "{foreign}"], "is not one of the run"),
        (["{trained}", "--output", "no/where/a.html"], "the folder 'no/where' does not exist"),
    ],
)
def test_what_cannot_be_reported_is_refused_in_a_sentence(args, words, trained, validated):
    foreign = next(validated.glob("*/checkpoints/best*.ckpt"))
    with pytest.raises(InputError, match=re.escape(words)):
        main([arg.format(trained=trained, foreign=foreign) for arg in args])


def make_table(counts):
    counts = np.array(counts, dtype=np.int64).reshape(-1, 1, 4)
    return ScoreTable(tuple(f"i{n}" for n in range(len(counts))), ("a",), counts)


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 3), max_size=20))
def test_the_gallery_shows_an_image_once_and_the_worst_before_the_best(counts):
    table = make_table([(*row, 5) for row in counts])
    chosen = choose(table)
    rows = [row for _, row in chosen]
    dice = per_image(table.of("a"), "dice")[rows]
    assert len(set(rows)) == len(rows) <= 12
    assert (np.diff(dice) >= 0).all()
    assert [kind for kind, _ in chosen] == sorted(
        (kind for kind, _ in chosen), key=["worst", "median", "best"].index
    )
    assert bool(rows) == any(sum(row) for row in counts)


def test_sizes_divide_the_lesions_and_their_shares_add_up():
    random = np.random.default_rng(0)
    table = make_table(np.add(random.integers(0, 50, (30, 4)), [1, 0, 0, 100]))
    groups = by_size(table, "a")
    assert [group.name for group in groups] == ["small", "medium", "large"]
    assert sorted(np.concatenate([group.rows for group in groups])) == list(range(30))
    for group in groups:
        tp, fp, fn, _ = table.of("a")[group.rows].sum(0)
        assert group.found + group.missed == pytest.approx(1)
        assert group.false == pytest.approx(fp / (tp + fn))
        assert group.interval[0] <= group.dice <= group.interval[1]


@pytest.mark.parametrize(
    ("folder", "listed"),
    [
        ("best-1-48", True),
        ("tta=flips-best-1-48", True),
        ("tta=flips-post=fill-best-1-48", True),
        ("tta=flips-last-1-48", False),
        ("best-11-48", False),
    ],
)
def test_a_page_lists_what_was_scored_with_its_checkpoint_however(tmp_path, folder, listed):
    place = tmp_path / folder
    place.mkdir()
    (place / "scores.csv").touch()
    assert _is_of(place / "summary.json", Path("best-1.ckpt")) is listed
