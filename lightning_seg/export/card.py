"""The model card: ``README.md`` of an exported folder, made from the checkpoint and from what lies
beside it in its run."""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lightning_seg import __version__
from lightning_seg.evaluation.conventions import SCORES
from lightning_seg.evaluation.strata import SIZES
from lightning_seg.evaluation.summary import Estimate
from lightning_seg.export._facts import guarantee_note
from lightning_seg.export._hub_results import HUB_RESULTS, benchmark_entry
from lightning_seg.export._leaderboard import RESULTS, leaderboard_rows
from lightning_seg.models.frame.listing import bibtex, count, title
from lightning_seg.plots import write_picture
from lightning_seg.reports.printing import other_scores
from lightning_seg.reports.run_page import header
from lightning_seg.reports.run_page._figures import strip_plot
from lightning_seg.reports.run_page._findings import cautions_of
from lightning_seg.reports.run_page._run import Events, ReportedRun, ScoredSplit, open_run
from lightning_seg.reports.run_page._sizes import by_size
from lightning_seg.runs import Run as RunFolder
from lightning_seg.runs.checkpoints import read_checkpoint, trained_channels
from lightning_seg.tables import interval_text, number_text

CODE_LICENSE = "apache-2.0"
DICE_PICTURE = "dice.png"
SPLITS = {"test": "Test", "val": "Validation"}
PUBLISHED = ("dice", "iou")  # what the metadata of the Hub hold
OPTIONS = (
    "optimizer_options",
    "schedule_options",
    "encoder_lr",
    "layer_decay",
    "no_decay",
    "freeze",
    "ema",
)


class ScoreRow(NamedTuple):
    """A score under the two main conventions, each with its interval."""

    name: str
    score: str
    image: str
    pooled: str


def card(
    checkpoint: Path,
    where: str,
    license_id: str = "other",
    results: Path = RESULTS,
) -> str:
    """The text of the card.

    Args:
        where: what ``from_pretrained`` is to be given: ``user/name`` on the Hub, or a folder.
        license_id: of the weights, as the Hub names it.
        results: the folder of ``leaderboard.csv``; without one the card has no row of it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    run, scored = card_results(checkpoint)
    # of scans a window is none of pictures
    options = (run.data.get("dataset_options") or {}) if run.data["dataset"] == "folder" else {}
    window = options.get("window")
    environment = Environment(
        loader=PackageLoader("lightning_seg.export", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("card.md.j2").render(
        metadata=yaml.safe_dump(
            metadata(run, scored, license_id), sort_keys=False, allow_unicode=True, width=1000
        ),
        where=where,
        picture=trained_channels(run.content) in ("RGB", "grey") or window is not None,
        window=window,
        exclusive=bool(run.model.get("exclusive")),
        crop=run.data.get("crop"),
        guarantee=guarantee_note([checkpoint]),
        run=run,
        title=name(run),
        paper=title(run.model["architecture"]),
        bibtex=bibtex(run.model["architecture"]),
        drawn=bool(scored),
        dice_picture=DICE_PICTURE,
        license_id=license_id,
        architecture=architecture(run),
        training=training_rows(run),
        scored=[(result.summary, rows(result), _other_rows(result)) for result in scored],
        splits=SPLITS,
        cautions=cautions_of(run, *scored),
        leaderboard=[
            row
            for result in scored
            for row in leaderboard_rows(result.folder / "scores.csv", results)
        ],
        has_test=any(result.summary.split == "test" for result in scored),
        version=__version__,
        versions=", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "transformers")),
    )


def card_results(checkpoint: Path) -> tuple[ReportedRun, list[ScoredSplit]]:
    """The run of a checkpoint, and the scores of whole splits by one pass of it, a test first."""
    run = _reported_run(checkpoint)
    scored = [
        result for result in run.results if _is_plain(result) and result.summary.split in SPLITS
    ]
    return run, scored


def write_card(
    folder: Path,
    checkpoint: Path,
    where: str,
    license_id: str = "other",
    benchmark: str = "",
) -> None:
    """Write the card, its picture, and the entry for the leaderboard of a benchmark.

    Args:
        where, license_id: see `card`.
        benchmark: ``owner/dataset`` or ``owner/dataset:task`` on the Hub; see `benchmark_entry`.

    Raises:
        InputError: a benchmark is named and the test split was never scored.
    """
    _, scored = card_results(checkpoint)
    if benchmark:
        place = folder / HUB_RESULTS / f"{benchmark.partition(':')[0].rpartition('/')[2]}.yaml"
        place.parent.mkdir()
        place.write_text(benchmark_entry(scored, benchmark, where), encoding="utf-8")
    if scored:
        table = scored[0].table
        name = table.classes[0]
        sizes = [group for group in by_size(table, name) if group.name in SIZES]
        write_picture(folder / DICE_PICTURE, strip_plot(table, name, sizes, []))
    text = card(checkpoint, where, license_id)
    (folder / "README.md").write_text(text, encoding="utf-8")


def _reported_run(checkpoint: Path) -> ReportedRun:
    """The run of a checkpoint; of one that lies elsewhere, what it says itself."""
    run = RunFolder.holding(checkpoint)
    if run is not None:
        return open_run(run.folder, str(checkpoint))
    return ReportedRun(
        checkpoint.parent, checkpoint, read_checkpoint(checkpoint), "", Events({}, {}), {}, []
    )


def _is_plain(result: ScoredSplit) -> bool:
    """Tell whether one pass of this network alone was scored, on a whole split: no augmentation,
    ensemble, post-processing or threshold but .5."""
    if result.summary.partial or result.summary.threshold != 0.5:
        return False
    found = result.summary.inference
    return (
        found.get("tta", "none") == "none"
        and not found.get("ensemble")
        and not found.get("postprocess")
        and not found.get("precision")
    )


def name(run: ReportedRun) -> str:
    """``attention_unet_convnext_tiny_kvasir_seg``."""
    encoder = (run.model["encoder"] or "").partition(".")[0]
    parts = (run.model["architecture"], encoder, run.data["dataset"])
    return "_".join(filter(None, parts))


def metadata(
    run: ReportedRun,
    scored: list[ScoredSplit],
    license_id: str,
) -> dict[str, Any]:
    """The front matter that the Hub reads."""
    tags = [
        "lightning_seg",
        "medical",
        "image-segmentation",
        "semantic-segmentation",
        run.model["architecture"],
    ]
    found: dict[str, Any] = {
        "license": license_id,
        **({"license_name": "see-model-card"} if license_id == "other" else {}),
        "library_name": "transformers",
        "pipeline_tag": "image-segmentation",
        "tags": [*tags, *(["timm"] if run.model["encoder"] else [])],
        "datasets": [run.data["dataset"]],
        "metrics": list(PUBLISHED),
    }
    if scored:
        found["model-index"] = [
            {"name": name(run), "results": [_indexed(result) for result in scored]}
        ]
    return found


def _indexed(result: ScoredSplit) -> dict[str, Any]:
    """A result as the Hub's model index has it."""
    summary = result.summary
    chosen = ", by which the epoch was chosen" if summary.split == "val" else ""
    return {
        "task": {"type": "image-segmentation", "name": "Image Segmentation"},
        "dataset": {
            "type": summary.dataset,
            "name": f"{summary.data_name}, protocol {summary.protocol} ({summary.protocol_digest})",
            "split": {"val": "validation"}.get(summary.split, summary.split),
        },
        "metrics": [
            {
                "type": score,
                "value": round(values[key].value, 4),
                "name": f"{score} of {label} ({words}{chosen})",
            }
            for label, scores in summary.scores.items()
            for score, values in scores.items()
            if score in PUBLISHED
            for key, words in (("image", "mean over images"), ("pooled", "pooled over pixels"))
        ],
    }


def rows(result: ScoredSplit) -> list[ScoreRow]:
    """The overlap scores of every class."""
    return [
        ScoreRow(label, score, _score_cell(values["image"]), _score_cell(values["pooled"]))
        for label, scores in result.summary.scores.items()
        for score, values in scores.items()
        if score in (*SCORES, "mcc")
    ]


def _other_rows(result: ScoredSplit) -> list[tuple[str, str, str]]:
    """All other measures and conventions; none of a test from before they were kept."""
    return list(other_scores(result.summary)) if result.summary.measures else []


def _score_cell(found: Estimate) -> str:
    return f"{number_text(found.value)} ({interval_text(found.interval, word='to')})"


def architecture(run: ReportedRun) -> list[tuple[str, str]]:
    """The network, as pairs of name and text."""
    model, size, channels = run.model, run.data["size"], run.model["in_channels"]
    exclusive, names = bool(model.get("exclusive")), ", ".join(model["classes"])
    channels_out = len(model["classes"]) + exclusive
    given = (model["options"] or {}) | {
        "encoder": model["encoder"],
        "encoder_options": model["encoder_options"],
    }
    side = size or 256
    parameters, macs = count(
        model["architecture"], side, num_classes=channels_out, in_channels=channels, **given
    )
    shape = f"{size} x {size}" if size else "any height and width"
    meaning = trained_channels(run.content)
    colours = f"{channels} neighbouring slices" if meaning == "slices" else meaning
    known = dict(header(run, None))
    found = [
        ("Architecture", f"{known['architecture']}; {title(model['architecture'])}"),
        ("Encoder", f"{known['encoder']} ({known['encoder weights']})"),
        (
            "Input",
            f"{shape}, {colours}, in [0, 1]; the model normalises it itself "
            f"({model['normalization']})",
        ),
        (
            "Output",
            f"logits, one channel for the background and each of {names}; a pixel is of the highest"
            if exclusive
            else f"logits, one channel for each of {names}; above 0: in the mask",
        ),
        ("Parameters", f"{parameters:,} ({parameters * 4 / 2**20:.1f} MiB in float32)"),
        ("Multiply-adds", f"{macs / 1e9:.2f} G for one image of {side} x {side}"),
    ]
    return [(key, _escaped_text(text)) for key, text in found]


def training_rows(run: ReportedRun) -> list[tuple[str, str]]:
    """The training, as pairs of name and text."""
    model, data, recipe = run.model, run.data, run.recipe()
    known = dict(header(run, run.results[0] if run.results else None))
    kept = (
        "data set",
        "protocol",
        "training images",
        "groups",
        "loss",
        "optimiser",
        "batch size",
        "epochs",
        "seed",
    )
    more = ("commit", "hardware", "minutes", "checkpoint")
    found = {
        **{key: known[key].replace("this page:", "this model:") for key in kept if key in known},
        "data set options": _recipe_words(data.get("dataset_options")),
        "weight decay": f"{model['weight_decay']:g}",
        "warm-up": f"{model['warmup']:.0%} of the steps"
        if model["schedule"] in ("cosine", "constant")
        else "",
        "further options": _recipe_words({key: model[key] for key in OPTIONS if model.get(key)}),
        "augmentation": _recipe_words(data.get("augment")) or "none",
        "precision": str(
            run.facts.get("precision") or (recipe.get("trainer") or {}).get("precision") or ""
        ),
        **{key: known[key] for key in more if key in known},
    }
    return [(key, _escaped_text(text)) for key, text in found.items() if text]


def _recipe_words(value: Any) -> str:
    """A value of a recipe in one line."""
    text = (
        yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
        if value
        else ""
    )
    return re.sub(r"\n?\.\.\.\n$|\n$", "", text)


def _escaped_text(text: str) -> str:
    return text.replace("|", "\\|")
