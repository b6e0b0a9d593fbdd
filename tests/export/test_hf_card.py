"""The model card, made from a real tiny run: its metadata, its tables, and its snippet, which is run."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hf_runs import run_alone, write_checkpoint
from huggingface_hub import ModelCard, parse_eval_result_entries
from made_runs import make_run
from markdown_it import MarkdownIt
from PIL import Image

import lightning_seg as ls
from experiments import record
from experiments.leaderboard.__main__ import main as leaderboard
from experiments.runs import results_of
from lightning_seg import cli
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.errors import InputError
from lightning_seg.export.card import card, write_card
from lightning_seg.export.hf import export_hf
from lightning_seg.models.frame.listing import bibtex, title
from lightning_seg.runs import find_checkpoint

RECIPE = {
    "trainer": {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "log_every_n_steps": 1,
        "max_epochs": 1,
    },
    "data": {
        "dataset": "phantom_polyp",
        "size": 32,
        "batch_size": 8,
        "dataset_options": {"resolution": 32},
    },
    "model": {"architecture": "attention_unet", "options": {"widths": [4, 8]}, "lr": 0.01},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was validated and not tested."""
    root = tmp_path_factory.mktemp("runs")
    (root / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    cli.run(["fit", "-c", str(root / "recipe.yaml"), "--runs", str(root), "--name", "tiny"])
    cli.run(
        [
            "validate",
            "--ckpt_path",
            str(find_checkpoint(root / "tiny", "best")),
            "--measures",
            "none",
        ]
    )
    return root / "tiny" / "version_0"


@pytest.fixture(scope="module")
def tested(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, tested: once as it is, once with test-time augmentation."""
    root = tmp_path_factory.mktemp("tested")
    shutil.copytree(run, root / "tiny" / "version_0")
    best = str(find_checkpoint(root / "tiny", "best"))
    cli.run(["test", "--ckpt_path", best, "--measures", "none"])
    cli.run(["test", "--ckpt_path", best, "--measures", "none", "--tta", "flips"])
    return root / "tiny" / "version_0"


def written(run: Path, where: str = "jane/polyps") -> str:
    return card(find_checkpoint(run, "best"), where)


def summary(run: Path, split: str) -> dict:
    [file] = [
        file for file in run.glob(f"{split}-*/best*/summary.json") if "flips" not in str(file)
    ]
    return json.loads(file.read_text())


def test_the_hub_reads_its_metadata(tested: Path) -> None:
    data = ModelCard(written(tested)).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "image-segmentation")
    assert data.datasets == ["phantom_polyp"]
    assert {"lightning_seg", "attention_unet"} <= set(data.tags)
    found = {
        (each.dataset_split, each.metric_type, each.metric_name): each.metric_value
        for each in data.eval_results
    }
    scores = summary(tested, "test")["scores"]["polyp"]
    assert found["test", "dice", "dice of polyp (mean over images)"] == round(
        scores["dice"]["image"]["value"], 4
    )
    assert found["test", "iou", "iou of polyp (pooled over pixels)"] == round(
        scores["iou"]["pooled"]["value"], 4
    )
    assert all(
        "by which the epoch was chosen" in name for split, _, name in found if split == "validation"
    )
    assert len(found) == 8


def test_it_renders_with_tables(tested: Path) -> None:
    text = written(tested)
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(ModelCard(text).text)
    assert (
        page.count("<table>") == 6
    )  # architecture; test and validation, each with its other measures; training
    assert "<td>dice</td>" in page
    assert "|" not in re.sub(
        r"<(code|pre)>.*?</\1>", "", page, flags=re.DOTALL
    )  # no row that is none
    assert page.count("<pre>") == 4


def test_scores_stand_with_split_convention_interval_and_protocol(tested: Path) -> None:
    text, facts = written(tested), summary(tested, "test")
    value = facts["scores"]["polyp"]["dice"]["image"]
    low, high = value["interval"]
    assert f"| polyp | dice | {value['value']:.4f} ({low:.3f} to {high:.3f}) |" in text
    assert "| class | score | mean over images | pooled over pixels |" in text
    assert f"digest `{facts['protocol_digest']}`" in text
    assert "**SYNTHETIC data, says nothing about clinical performance.**" in text
    assert (
        text.index("### Test")
        < text.index("### Validation")
        < text.index("so the scores are too good")
    )
    assert text.count("### Test") == 1  # what augmentation adds is not in the folder
    assert "never scored" not in text


def test_a_test_that_was_never_run_is_told(run: Path) -> None:
    text = written(run)
    assert "**The test split was never scored for this checkpoint**" in text
    assert "### Test" not in text


def test_a_model_that_was_never_scored_is_synthetic_and_leaks_all_the_same(run: Path) -> None:
    alone = run.parent.with_name("alone") / "version_0"
    shutil.copytree(run, alone, ignore=shutil.ignore_patterns("val-*"))
    assert "**SYNTHETIC data, says nothing about clinical performance.**" in written(alone)
    file = find_checkpoint(alone, "best")
    content = torch.load(file, weights_only=True)
    content["lightning_seg"]["protocol_digest"] = "f1d10e535545"  # of kvasir-unet-a
    torch.save(content, file)
    assert "> **This protocol LEAKS: 12 known pairs" in written(alone)


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ({"status": "interrupted", "epochs_planned": 1, "epochs_done": 1}, "1, "),
        (
            {"status": "interrupted", "epochs_planned": 5, "epochs_done": 1},
            "interrupted after 1 of 5, ",
        ),
        ({"status": "complete", "epochs_planned": 5, "epochs_done": 1}, "1 of 5, "),
        (None, "1 of 5, "),
    ],
)
def test_a_training_that_ended_early_is_not_one_of_all_its_epochs(
    run: Path, tmp_path: Path, ending: dict | None, said: str
) -> None:
    place = tmp_path / "tiny" / "version_0"
    shutil.copytree(run, place)
    planned = 5 if ending is None else ending["epochs_planned"]
    config = yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8"))
    config["trainer"]["max_epochs"] = planned
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    kept = json.loads((place / "environment.json").read_text(encoding="utf-8"))
    kept.pop("ending", None)
    more = {} if ending is None else {"ending": ending}
    (place / "environment.json").write_text(json.dumps(kept | more))
    assert f"| epochs | {said}this model: epoch 1 |" in written(place)


def test_training_architecture_license_and_citation_stand_in_it(run: Path) -> None:
    text = written(run)
    assert "| optimiser | adamw, lr 0.01, cosine |" in text
    assert "| data set options | {resolution: 32} |" in text
    assert re.search(r"\| Parameters \| [\d,]+ \(", text)
    assert text.count("Attention U-Net: Oktay et al.") == 2
    assert "Not a medical device" in text
    assert "@software{lightning_seg" in text
    assert ModelCard(text).data.license == "other"
    assert "The weights are under cc-by-4.0." in card(
        find_checkpoint(run, "best"), "a/b", "cc-by-4.0"
    )


def test_a_checkpoint_outside_a_run_gets_a_card_without_scores(tmp_path: Path) -> None:
    text = card(write_checkpoint(tmp_path / "alone.ckpt", size=None), "jane/alone")
    assert ModelCard(text).data.eval_results is None
    assert "never scored" in text
    assert "any height and width" in text


def test_what_else_decided_the_training_stands_in_it(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "ema.ckpt", ema=0.9, freeze={"encoder": 2})
    content = torch.load(file)
    content["lightning_seg"]["precision"] = "bf16-mixed"
    torch.save(content, file)
    text = card(file, "jane/ema")
    assert "| further options | {freeze: {encoder: 2}, ema: 0.9} |" in text
    assert "| precision | bf16-mixed |" in text


def test_of_slices_no_picture_is_spoken(tmp_path: Path) -> None:
    file = write_checkpoint(
        tmp_path / "slices.ckpt", in_channels=5, classes=["liver", "tumor"], dataset="lits"
    )
    text = card(file, "jane/slices")
    assert "np.load" in text
    assert "PIL" not in text
    assert "pipeline(" not in text


def test_the_row_of_the_leaderboard_stands_in_it_where_the_run_was_recorded(
    run: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    made = make_run(tmp_path / "runs" / "made" / "version_0", 0.85)
    [tested] = results_of(made)
    record.record([tested], results)
    leaderboard(["--results", str(results)])
    copy = tmp_path / "copy" / "tiny" / "version_0"
    shutil.copytree(run, copy)
    checkpoint = find_checkpoint(copy, "best")
    shutil.copytree(tested.file.parent, copy / "test-kvasir-unet-a-v2" / f"{checkpoint.stem}-160")
    text = card(checkpoint, "jane/polyps", results=results)
    assert re.search(r"\| 1 \| unet x mobilenetv2_100 \| polyp \| image \| 0\.8\d+ \|", text)
    assert "## Leaderboard" not in card(checkpoint, "jane/polyps", results=tmp_path / "nowhere")


def test_the_snippets_run_as_they_stand_and_give_the_masks_of_the_checkpoint(
    tested: Path, tmp_path: Path, unchecked: None
) -> None:
    checkpoint = find_checkpoint(tested, "best")
    export_hf(checkpoint, tmp_path / "polyps")
    picture, _ = render_phantom("polyp", 0, 2, 64)
    Image.fromarray(picture).save(tmp_path / "image.jpg", quality=95)
    snippets = re.findall(
        r"```python\n(.*?)```", (tmp_path / "polyps" / "README.md").read_text(), re.DOTALL
    )
    assert len(snippets) == 3
    run_alone(
        "\n".join(
            [
                *snippets,
                "import numpy",
                "numpy.savez('f.npz', mask=mask, masks=masks, found=len(found))",
            ]
        ),
        tmp_path,
    )
    found, expected = np.load(tmp_path / "f.npz"), ls.load(checkpoint)
    seen = np.array(Image.open(tmp_path / "image.jpg"))
    scaled = expected.network(expected.network.scale(seen)[None])[0] > 0.5
    assert found["mask"].shape == (1, 1, 32, 32)
    assert (found["mask"][0] != scaled).mean() < 2e-3
    assert (found["masks"] != expected.predict(seen).mask).mean() < 2e-3
    assert found["found"] == scaled.any()


def test_the_benchmark_of_the_hub_gets_the_test_and_what_must_be_said(
    tested: Path, tmp_path: Path
) -> None:
    write_card(
        tmp_path, find_checkpoint(tested, "best"), "jane/polyps", benchmark="jane/kvasir:test"
    )
    content = yaml.safe_load((tmp_path / ".eval_results" / "kvasir.yaml").read_text("utf-8"))
    [entry] = parse_eval_result_entries(content)
    dice = summary(tested, "test")["scores"]["polyp"]["dice"]["image"]
    assert (entry.dataset_id, entry.task_id) == ("jane/kvasir", "test")
    assert entry.value == round(dice["value"], 4)
    assert entry.source_url == "https://huggingface.co/jane/polyps"
    assert entry.notes.startswith("SYNTHETIC data")
    assert f"polyp {dice['interval'][0]:.3f} to {dice['interval'][1]:.3f}" in entry.notes
    assert "split test" in entry.notes


def test_no_benchmark_gets_a_score_of_validation_or_a_name_that_is_none(
    run: Path, tmp_path: Path
) -> None:
    checkpoint = find_checkpoint(run, "best")
    with pytest.raises(InputError, match="was not tested on a whole split"):
        write_card(tmp_path, checkpoint, "jane/polyps", benchmark="jane/kvasir")
    with pytest.raises(InputError, match="is no benchmark of the Hub"):
        export_hf(checkpoint, tmp_path / "out", "jane/polyps", benchmark="kvasir")
    with pytest.raises(InputError, match="give its --repo-id too"):
        export_hf(checkpoint, tmp_path / "out", benchmark="jane/kvasir")
    assert not (tmp_path / "out").exists()


def test_the_picture_of_the_card_is_written_beside_it(tested: Path, tmp_path: Path) -> None:
    write_card(tmp_path, find_checkpoint(tested, "best"), "jane/polyps")
    assert "](dice.png)" in (tmp_path / "README.md").read_text("utf-8")
    pixels = np.asarray(Image.open(tmp_path / "dice.png"))
    dots = (pixels == (0, 0x60, 0xA8)).all(-1)
    assert dots.any()
    assert not (tmp_path / ".eval_results").exists()


def test_a_model_without_scores_has_no_picture(tmp_path: Path) -> None:
    write_card(tmp_path, write_checkpoint(tmp_path / "alone.ckpt"), "jane/alone")
    assert "dice.png" not in (tmp_path / "README.md").read_text("utf-8")
    assert not (tmp_path / "dice.png").exists()


@pytest.mark.parametrize("network", ls.names())
def test_every_network_has_the_entry_of_its_paper(network: str) -> None:
    entry = bibtex(network)
    assert entry.count("{") == entry.count("}")
    fields = dict(re.findall(r"^  (\w+) += \{+(.+?)\}+,$", entry, re.MULTILINE))
    assert fields.keys() >= {"author", "title", "year"}
    assert f'"{fields["title"]}"' in title(network)
    assert fields["author"].endswith(" and others") or " and " in fields["author"]


def test_authors_and_venue_stand_in_the_entry_as_bibtex_has_them() -> None:
    assert bibtex("attention_unet").splitlines()[:2] == [
        "@inproceedings{attention_unet,",
        "  author    = {Oktay and others},",
    ]
    assert "  author    = {Ibtehaz and Rahman}," in bibtex("multires_unet")
    assert "  booktitle = {MIDL}," in bibtex("attention_unet")
