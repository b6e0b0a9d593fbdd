"""The options of ``lightning-seg predict``; this module loads no torch, so that ``--help`` is
there at once."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lightning_seg.data.reading.pictures import MAX_PIXELS
from lightning_seg.errors import InputError
from lightning_seg.options import THRESHOLD_HELP, OptionParser, add_model_options

PRECISIONS = {"32": None, "bf16": "bfloat16", "16": "float16"}  # names of torch's types
ENGINES = ("torch", "onnxruntime", "openvino", "auto")
SPLITS = ("test", "val", "train")
# what the results depend on besides networks and input
SETTINGS = (
    "tta",
    "threshold",
    "postprocess",
    "tile",
    "overlap",
    "masks_at",
    "precision",
    "engine",
    "probabilities",
    "overlays",
    "window",
)
# option -> the kinds of input for which it does anything
HOLD_FOR = {
    "probabilities": ("image", "volume", "dicom"),
    "overlays": ("image", "volume", "dicom"),
    "dicom_seg": ("dicom",),
    "frame_masks": ("video",),
    "coco": ("image",),
    "masks_at": ("image",),
    "profile": ("image",),
    "window": ("volume", "dicom"),
}


@dataclass(frozen=True)
class PredictOptions:
    """The results that are written besides masks, and the way of a picture to the network.

    Attributes:
        probabilities: also write maps of probability.
        overlays: also write pictures with the outlines drawn in.
        tile: side of the windows in which a picture is predicted at its own resolution; None: as
            in training, scaled or by windows.
        overlap: of neighbouring windows, as a share of their side; None: as in training, or .5.
        batch_size: None: found.
        frame_masks: also write the mask of each frame of a video.
        dicom_seg: also write the masks of a DICOM series as DICOM-SEG.
    """

    probabilities: bool = False
    overlays: bool = False
    tile: int | None = None
    overlap: float | None = None
    batch_size: int | None = None
    frame_masks: bool = False
    dicom_seg: bool = False

    def __post_init__(self) -> None:
        for name, value in (("tile", self.tile), ("batch_size", self.batch_size)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give a whole number from 1.")
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise InputError(
                f"the overlap is {self.overlap}; give a share of the window from 0, below 1, "
                "such as 0.5."
            )


def read_arguments(args: Sequence[str]) -> argparse.Namespace:
    """The options that a command line gives; ``data`` holds those of the form ``--data.KEY VALUE``.

    InputError for those that do not go together.
    """
    given, rest = _predict_parser().parse_known_args([_underscored(arg) for arg in args])
    given.data = _data_options(rest)
    if given.input is not None and given.output is None:
        raise InputError("--input needs --output, the folder of the results.")
    if given.input is not None and (given.data or given.split):
        raise InputError(
            "--split and --data.KEY are for the data set's own images; leave out --input, or them."
        )
    if given.input is None and given.window is not None:
        raise InputError("--window is for volumes that --input names; leave it out, or give them.")
    if given.input is None and given.dicom_seg:
        raise InputError(
            "--dicom_seg is for DICOM series that --input names; leave it out, or give them."
        )
    if given.tile is not None and given.masks_at == "network":
        raise InputError(
            "--tile predicts at the input's own resolution; leave out --masks_at network."
        )
    if given.input is None and given.profile:
        raise InputError(
            "--profile is for pictures that --input names; leave it out, or give them."
        )
    given.split = given.split or "test"
    return given


def predict_options(given: argparse.Namespace) -> PredictOptions:
    """Those of `PredictOptions` among the options."""
    if given.batch_size != "auto" and not given.batch_size.isdecimal():
        raise InputError(
            f"--batch_size is {given.batch_size!r}; give auto, or a whole number from 1."
        )
    size = None if given.batch_size == "auto" else int(given.batch_size)
    windows = given.tile, given.overlap
    return PredictOptions(
        given.probabilities,
        given.overlays,
        *windows,
        size,
        frame_masks=given.frame_masks,
        dicom_seg=given.dicom_seg,
    )


def _underscored(arg: str) -> str:
    """``--batch-size`` is ``--batch_size``."""
    name, equals, value = arg.partition("=")
    return (
        name.replace("-", "_").replace("__", "--", 1) + equals + value if arg[:2] == "--" else arg
    )


def _data_options(rest: Sequence[str]) -> dict[str, Any]:
    """``--data.size 48`` and ``--data.size=48`` as {"size": 48}."""
    found: dict[str, Any] = {}
    words = list(rest)
    while words:
        name, equals, value = words.pop(0).partition("=")
        if name.startswith("--trainer."):
            raise InputError(
                f"predict has no option {name!r}, since it needs no trainer; give --devices cpu or "
                "cuda:0, and --precision."
            )
        if not name.startswith("-"):
            raise InputError(
                f"{name!r} belongs to no option; an option takes one value: put a pattern in quotes, such as "
                "--input 'images/*.jpg'."
            )
        if not name.startswith("--data.") or not (equals or words):
            raise InputError(
                f"predict has no option {name!r}; `lightning-seg predict --help` lists them."
            )
        text = value if equals else words.pop(0)
        try:
            found[name.removeprefix("--data.")] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"{name} is {text!r}, which is not YAML; correct it.") from error
    return found


class _Parser(OptionParser):
    def error(self, message: str) -> Any:
        raise InputError(f"{message}; `lightning-seg predict --help` lists the options.")


def _predict_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lightning-seg predict",
        usage="lightning-seg predict --ckpt_path X [--input Y --output DIR] [options]",
        description="Masks of pictures, videos and CT volumes. Without --input: of the test split "
        "of the checkpoint's data, with a contact sheet of image, truth and prediction.",
    )
    add_model_options(parser, ensemble=True)
    _add_sources(parser.add_argument)
    _add_results(parser.add_argument)
    _add_rule(parser.add_argument)
    _add_machine(parser.add_argument)
    return parser


def _add_sources(add: Any) -> None:
    place = "a file, a folder and all below it, DICOM included, or a pattern in quotes"
    add("--input", metavar="Y", help=place)
    add("--split", choices=SPLITS, help="of the data set, without --input (default test)")
    parts = "without --input: other data than the checkpoint's, such as --data.root DIR"
    # read by `_data_options`; here it stands for the help
    add("--data.KEY", dest="_data", metavar="VALUE", help=parts)


def _add_results(add: Any) -> None:
    folder = "folder of the results; what is finished in it is not done again"
    add("--output", metavar="DIR", help=folder)
    maps = "also maps of probability: PNG of 16 bits, 65535 is 1; NIfTI of float"
    add("--probabilities", action="store_true", help=maps)
    drawn = "also pictures with the outlines drawn in; of a volume some slices in one picture"
    add("--overlays", action="store_true", help=drawn)
    segments = "also the masks of a DICOM series as DICOM-SEG, a segment for each class"
    add("--dicom_seg", action="store_true", help=segments)
    frames = "also the mask of each frame of a video, videos/masks/NAME/frame_000000.png"
    add("--frame_masks", action="store_true", help=frames)
    add("--coco", action="store_true", help="also the contours of all pictures, coco.json")


def _add_rule(add: Any) -> None:
    augmentation = "test-time augmentation: none, flips or resunet_plus_plus"
    add("--tta", default="none", metavar="NAME", help=augmentation)
    add("--threshold", default=0.5, metavar="P", help=THRESHOLD_HELP)
    steps = "a chain of crf, fill_holes, keep_largest and min_area=N, joined by commas"
    add("--postprocess", default="", metavar="STEPS", help=steps)
    size = "size of the masks: of the input, or as scored"
    add("--masks_at", choices=("native", "network"), default="native", help=size)
    windows = "predict windows of N pixels at the input's own resolution, and blend them"
    add("--tile", type=int, metavar="N", help=windows)
    share = "of neighbouring windows (default: as in training on crops, or 0.5)"
    add("--overlap", type=float, metavar="SHARE", help=share)
    grey = "HU that are black and white, where the checkpoint's data set has none"
    add("--window", type=float, nargs=2, metavar=("LOW", "HIGH"), help=grey)


def _add_machine(add: Any) -> None:
    add("--batch_size", default="auto", metavar="N", help="pictures at once (default: found)")
    devices = "cpu, or such as cuda:0,cuda:1, a process each (default: all GPUs, or the CPU)"
    add("--devices", default="auto", help=devices)
    numbers = f"{', '.join(PRECISIONS)}: mixed precision may move single pixels (default 32)"
    add("--precision", default="32", help=numbers)
    engine = f"{', '.join(ENGINES)}: what computes on the CPU (default torch)"
    add("--engine", default="torch", help=engine)
    most = f"a larger picture is refused (default {MAX_PIXELS})"
    stages = "also how busy reading, network and writing were, and which of them is the slowest"
    add("--profile", action="store_true", help=stages)
    add("--max_pixels", type=int, default=MAX_PIXELS, metavar="N", help=most)
