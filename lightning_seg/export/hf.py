"""``lightning-seg export hf``: a trained network as a folder that transformers loads where
lightning_seg is absent.

The folder holds ``config.json``, ``model.safetensors``, the network's own source files with
relative imports, an image processor, and a model card made from the run. It appears complete and
checked against the checkpoint, or not at all.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from lightning_seg.errors import InputError
from lightning_seg.export._check import TOLERANCE, FolderDifference, check_folder
from lightning_seg.export._code import HEADER, flat_sources
from lightning_seg.export._facts import guarantee_note, input_note
from lightning_seg.export._file_export import export_parser, writable
from lightning_seg.export._hub_results import HUB_RESULTS, check_benchmark
from lightning_seg.export.card import CODE_LICENSE, DICE_PICTURE, write_card
from lightning_seg.files.leftovers import part_folder
from lightning_seg.inference.ensemble import Ensemble, load_ensemble
from lightning_seg.models import arguments, find
from lightning_seg.models.frame.normalization import ImageNetwork
from lightning_seg.options import shell_command
from lightning_seg.runs import find_checkpoint
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.runs.naming import named_checkpoint

REMOTE = Path(__file__).parent / "remote"
MODEL_TYPE = "lightning_seg"
AUTO_MAP = {
    "AutoConfig": "configuration_lightning_seg.LightningSegConfig",
    "AutoModel": "modeling_lightning_seg.LightningSegModel",
    "AutoModelForImageSegmentation": "modeling_lightning_seg.LightningSegModel",
    "AutoModelForSemanticSegmentation": "modeling_lightning_seg.LightningSegModel",
}
# what the files of ``remote`` import besides the network
CARRIED = (
    "lightning_seg.training.losses",
    "lightning_seg.data.reading.conversion",
    "lightning_seg.data.reading.windowing",
)
PROCESSOR = {"AutoImageProcessor": "image_processing_lightning_seg.LightningSegImageProcessor"}


def main(args: Sequence[str]) -> None:
    """``lightning-seg export hf``; see ``lightning-seg export hf --help``."""
    options = _hf_parser().parse_args(args)
    found = export_hf(
        named_checkpoint(options),
        options.output,
        options.repo_id,
        options.license,
        options.overwrite,
        options.benchmark,
    )
    upload = "export with --repo-id, which the card names, then lightning-seg push"
    if options.repo_id:
        upload = shell_command(
            "lightning-seg", "push", options.output, "--repo-id", options.repo_id
        )
    print(
        f"exported:  {options.output}\n"
        f"checked without lightning_seg: logits differ by at most {found.logits:.1e} (allowed "
        f"{TOLERANCE:g}), "
        f"{found.pixels:.3%} of the scaled pixels by {found.grey_levels} grey level\n"
        f"upload:  {upload}"
    )
    if found.note:
        print(f"note:  {found.note}")


def _hf_parser() -> argparse.ArgumentParser:
    parser = export_parser("hf", "A checkpoint as a folder that Hugging Face's transformers loads.")
    add = parser.add_argument
    folder = "a folder that does not exist yet"
    add("--output", required=True, type=Path, metavar="DIR", help=folder)
    name = "under which the card shows how to load it"
    add("--repo_id", "--repo-id", default="", metavar="USER/NAME", help=name)
    terms = (
        f"of the weights, as the Hub names it (default: other; the code is under {CODE_LICENSE})"
    )
    add("--license", default="other", metavar="ID", help=terms)
    listed = "a benchmark of the Hub, for whose leaderboard the test's Dice is written"
    add("--benchmark", default="", metavar="OWNER/DATASET[:TASK]", help=listed)
    add("--overwrite", action="store_true", help="replace an earlier export")
    return parser


def export_hf(
    checkpoint: str | Path,
    output: Path,
    repo_id: str = "",
    license_id: str = "other",
    overwrite: bool = False,
    benchmark: str = "",
) -> FolderDifference:
    """Write the folder ``output`` for a checkpoint, after it has been loaded and compared in a
    process of its own.

    Args:
        checkpoint: a ``.ckpt`` file, or the folder of a run: its best one.
        repo_id: ``user/name`` on the Hub, for the card; without it the card names the folder.
        license_id: of the weights.
        overwrite: replace an earlier export.
        benchmark: see `write_card`; needs ``repo_id``.

    Errors: InputError for a network that is not of lightning_seg, a name that is none on the Hub,
        a folder that is in use, a
    library that is missing, and logits that are not those of the checkpoint.
    """
    if repo_id:
        check_repo_id(repo_id)
    if benchmark:
        check_benchmark(benchmark)
        if not repo_id:
            raise InputError(
                f"--benchmark {benchmark} leads to the model on the Hub; give its --repo-id too."
            )
    file = find_checkpoint(checkpoint)
    given = read_checkpoint(file)["hyper_parameters"]
    _check_export(given["architecture"], output, overwrite)
    network = load_ensemble([file])
    with writable(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with part_folder(output) as scratch:
            folder = scratch / "content"
            folder.mkdir()
            write_model(folder, network, given.get("loss"))
            difference = check_folder(folder, network)
            notes = input_note(network.trained), guarantee_note([file])
            difference = difference._replace(note="; ".join(filter(None, notes)))
            write_card(folder, file, repo_id or str(output), license_id, benchmark)
            if output.is_dir():
                output.rename(scratch / "before")  # is removed with the scratch folder
            folder.rename(output)
    return difference


def _check_export(architecture: str, output: Path, overwrite: bool) -> None:
    """All that can be refused before anything is loaded."""
    if ":" in architecture:
        raise InputError(
            f"the network {architecture!r} is not of lightning_seg, and what its code needs is "
            "not known; export one that "
            "`lightning-seg models` lists, or put yours into lightning_seg/models."
        )
    if find_spec("transformers") is None:
        raise InputError(
            "the export is checked with transformers, which is absent; pip install "
            "'lightning_seg[hf]'."
        )
    if output.is_file() or (
        output.is_dir() and any(output.iterdir()) and not (overwrite and is_export(output))
    ):
        cure = (
            "give --overwrite to replace it"
            if is_export(output)
            else "give a folder that does not exist yet"
        )
        raise InputError(
            f"{output} is in use{' by an earlier export' if is_export(output) else ''}; {cure}."
        )


def check_repo_id(repo_id: str) -> None:
    """InputError where it is not ``user/name``."""
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repo_id):
        raise InputError(
            f"{repo_id!r} is no name on the Hub; give user/name, such as jane/unet-kvasir."
        )


def is_export(folder: Path) -> bool:
    """Tell whether a folder holds what `export_hf` writes and nothing else."""
    config = folder / "config.json"
    try:
        ours = json.loads(config.read_text(encoding="utf-8")).get("model_type") == MODEL_TYPE
    except (OSError, ValueError, AttributeError):
        return False
    data = {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
        "README.md",
        DICE_PICTURE,
        HUB_RESULTS,
        "__pycache__",
    }
    return ours and all(path.name in data or path.suffix == ".py" for path in folder.iterdir())


def write_model(
    folder: Path,
    network: Ensemble,
    loss: dict[str, Any] | None = None,
) -> None:
    """Everything but the card: weights, configuration, code; ``loss`` is that of the training."""
    module = network.modules[0]
    state = {f"net.{name}": tensor for name, tensor in module.net.state_dict().items()}
    state |= {"mean": module.mean, "std": module.std}
    # cloned: tensors that share memory cannot be saved, and channels_last ones neither
    whole = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    (folder / "model.safetensors").write_bytes(
        save(whole, metadata={"format": "pt"})
    )  # `save_file` hides it from others
    _write_config(folder / "config.json", configuration(module, network.trained.size, loss))
    size = network.trained.size
    processor = {
        "auto_map": PROCESSOR,
        "image_processor_type": "LightningSegImageProcessor",
        "in_channels": network.trained.in_channels,
        "of_pictures": network.trained.channels in ("RGB", "grey"),
        "exclusive": network.trained.exclusive,
        "size": size and {"height": size, "width": size},
        "window": network.trained.picture.window,
    }
    _write_config(folder / "preprocessor_config.json", processor)
    write_code(folder, module.form.architecture)


def configuration(
    module: ImageNetwork, size: int | None, loss: dict[str, Any] | None
) -> dict[str, Any]:
    """The content of ``config.json``."""
    form = module.form
    classes = dict(enumerate(module.classes))
    return {
        "model_type": MODEL_TYPE,
        "architectures": ["LightningSegModel"],
        "auto_map": AUTO_MAP | PROCESSOR,
        "architecture": form.architecture,
        "network": arguments(
            form.architecture,
            encoder=form.encoder,
            in_channels=form.in_channels,
            num_classes=form.channels,
            encoder_options=form.encoder_options,
            **(form.options or {}),
        ),
        "classes": module.classes,
        "id2label": classes,
        "label2id": {name: index for index, name in classes.items()},
        "in_channels": form.in_channels,
        "image_size": size,
        "image_mean": module.mean.flatten().tolist(),
        "image_std": module.std.flatten().tolist(),
        "exclusive": form.exclusive,
        "calibration": form.calibration,
        "loss": loss or {"cross_entropy" if form.exclusive else "bce": 0.5, "dice": 0.5},
        "dtype": "float32",
    }


def write_code(folder: Path, architecture: str) -> None:
    """The network's source files and those of ``remote``."""
    cls = find(architecture)
    files = flat_sources([cls.__module__, *CARRIED])
    home = cls.__module__.rpartition(".")[2]
    files["network.py"] = (
        f'{HEADER}"""Which class is the network."""\n\nfrom .{home} import {cls.__name__} as Network\n'
    )
    # transformers knows a model's class by that of its configuration, and code in folders of one
    # name by its content: two
    # exports called alike would share both, were their configurations the same
    digest = hashlib.sha256("".join(files.values()).encode()).hexdigest()[:16]
    for path in REMOTE.glob("*_lightning_seg.py"):
        files[path.name] = (
            f"{HEADER}# For the network of digest {digest}.\n{path.read_text(encoding='utf-8')}"
        )
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _write_config(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
