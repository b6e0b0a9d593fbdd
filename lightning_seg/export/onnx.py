"""``lightning-seg export onnx``: a checkpoint as an ONNX file, written only after it gave the
checkpoint's numbers.

>>> import onnxruntime, numpy as np
>>> session = onnxruntime.InferenceSession("model.onnx")
>>> [logits] = session.run(None, {"image": np.zeros((1, 3, 256, 256), np.float32)})   # images in [0, 1]
"""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightning_seg.errors import InputError, unknown
from lightning_seg.export import _onnx_graph as graph
from lightning_seg.export._facts import check_output, input_note, read_side
from lightning_seg.export._file_export import (
    FileExport,
    Model,
    add_file_options,
    check_side,
    export_parser,
    open_export,
    say_of_networks,
    written,
)
from lightning_seg.export._graph import Logits, Masks
from lightning_seg.export._pictures import CALIBRATE, Pictures, choose_pictures
from lightning_seg.export._trace import FormError, Shapes, Traced, freest, logits_forms, masks_forms
from lightning_seg.export.verify import (
    MasksChangedError,
    Verified,
    image_batches,
    one_by_one,
    verify_logits,
    verify_masks,
)
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.runs.naming import named_checkpoints, named_cross_validations
from lightning_seg.tables import count_text

OPSETS = range(18, 24)  # that torch can write
OPSET = 20
QUANTIZATIONS = ("int8", "bf16")
VERIFIED, CALIBRATED = 16, 32  # pictures of a variant
FEW = 4  # that verify an exact file


@dataclass(frozen=True)
class OnnxOptions:
    """The kind of ONNX file that is written.

    Attributes:
        processing: the graph takes pictures (B, H, W, C) uint8 of any size and gives masks of that
            size.
        quantize: ``int8``, ``bf16`` or empty.
        size: the only height and width; None: free, where the network allows.
        opset: of the operators of ONNX.
        threshold: of the probabilities, for masks.
        images: folder of those that verify; None: of the validation split, or phantoms.
        calibrate: folder of those that calibrate int8; None: of the training split, or phantoms.
    """

    processing: bool = False
    quantize: str = ""
    size: int | None = None
    opset: int = OPSET
    threshold: float = 0.5
    images: str | None = None
    calibrate: str | None = None

    def __post_init__(self) -> None:
        if self.quantize and self.quantize not in QUANTIZATIONS:
            raise unknown("quantisation", self.quantize, QUANTIZATIONS)
        if self.opset not in OPSETS:
            raise InputError(
                f"opset {self.opset} cannot be written; give one from {OPSETS[0]} to {OPSETS[-1]}."
            )
        if self.processing and self.size is not None:
            raise InputError(
                "--with-processing scales pictures of any size as the checkpoint says; leave out "
                "--size."
            )
        check_side(self.size)
        if self.threshold != 0.5 and not self.processing:
            raise InputError(
                "--threshold is for the masks of --with-processing; leave it out, or add that."
            )
        if self.calibrate is not None and self.quantize != "int8":
            raise InputError("--calibrate is for --quantize int8; leave it out, or add that.")


class OnnxExported(NamedTuple):
    """An exported file: what it takes, also in words, and what its verification found."""

    shapes: Shapes
    takes: str
    verified: Verified


def main(args: Sequence[str]) -> None:
    """``lightning-seg export onnx``; see its ``--help``."""
    given = _onnx_parser().parse_args(args)
    options = OnnxOptions(
        given.with_processing,
        given.quantize or "",
        read_side(given.size),
        given.opset,
        given.threshold,
        given.images,
        given.calibrate,
    )
    checkpoints = named_checkpoints(given)
    say_of_networks(checkpoints, named_cross_validations(given))
    found = export_onnx(checkpoints, given.output, options, given.trust_code)
    megabytes = given.output.stat().st_size / 2**20
    print(f"exported:  {given.output} ({megabytes:.1f} MiB, opset {given.opset})")
    print(f"takes:     {found.takes}\nverified:  {found.verified.text}")


def _onnx_parser() -> argparse.ArgumentParser:
    parser = export_parser("onnx", "A checkpoint as an ONNX file.", ensemble=True)
    add_file_options(parser, ".onnx")
    add = parser.add_argument
    processing = "pictures (B, H, W, C) uint8 of any size in, masks out"
    add("--with_processing", "--with-processing", action="store_true", help=processing)
    cut = "of the masks of --with-processing (default 0.5)"
    add("--threshold", type=float, default=0.5, help=cut)
    kinds = "int8 (for CPUs with VNNI) or bf16 (half the bytes), if masks stay"
    add("--quantize", metavar="KIND", help=kinds)
    opset = f"of ONNX, {OPSETS[0]} to {OPSETS[-1]} (default {OPSET})"
    add("--opset", type=int, default=OPSET, help=opset)
    calibrate = "that calibrate int8, not the test images (default: of the training split)"
    add(CALIBRATE, metavar="FOLDER", help=calibrate)
    return parser


def export_onnx(
    checkpoint: Model,
    output: Path,
    options: OnnxOptions | None = None,
    trust_code: bool = False,
) -> OnnxExported:
    """Write ``output`` from a checkpoint, after onnxruntime gave the checkpoint's logits (or
    masks) with it.

    Args:
        checkpoint: see `open_export`.
        trust_code: see `read_network`.

    Errors: InputError for another suffix, missing libraries, a place that cannot be written, and
        for a file that does not do
    what the checkpoint does.
    """
    options = options or OnnxOptions()
    check_output(output, ".onnx")
    for library in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(library) is None:
            raise InputError(
                f"ONNX files need {library}, which is absent; pip install 'lightning_seg[onnx]'."
            )
    count = VERIFIED if options.quantize else FEW
    job = open_export(checkpoint, options.size, options.images, count, trust_code)
    if options.processing and job.network.trained.crop is not None:
        raise InputError(
            f"{job.checkpoint} was trained on crops, and a graph has no sliding window; leave out "
            f"--with-processing, and give the plain graph windows of {job.network.trained.crop} "
            "pixels."
        )
    calibration = None
    if options.quantize == "int8":
        place = options.calibrate, CALIBRATED, "train", CALIBRATE
        calibration = choose_pictures(job.network, job.checkpoint, *place)
    with written(output, ".onnx") as part:
        return _OnnxExport(job, calibration, options).write(part)


class _OnnxExport:
    """One export: a checkpoint, the pictures that calibrate it, what is asked."""

    def __init__(
        self,
        job: FileExport,
        calibration: Pictures | None,
        options: OnnxOptions,
    ) -> None:
        self.network, self.facts, self.pictures = job.network, job.facts, job.pictures
        self.side, self.options, self.calibration = job.side, options, calibration
        trained = job.network.trained
        self.rule = MaskRule(trained.classes, options.threshold, exclusive=trained.exclusive)
        self.logits = Logits(job.network)

    def write(self, part: Path) -> OnnxExported:
        """Write the freest form that verifies."""
        channels = self.network.trained.in_channels
        if self.options.processing:
            masks = Masks(self.logits, self.network.trained.size, self.rule.cut)
            forms = masks_forms(masks, channels, self.side)
        else:
            forms = logits_forms(self.logits, channels, self.options.size, self.side)
        shapes, verified = freest(forms, lambda traced: self._write(traced, part))
        on = verified._replace(
            text=f"on {self.pictures.origin}: {verified.text}{self._calibrated('; calibrated on ')}"
        )
        return OnnxExported(shapes, self._takes(shapes), on)

    def _write(self, traced: Traced, part: Path) -> Verified:
        model = self._model(traced)
        verified = self._verify(model, part, traced.shapes, "")
        if self.calibration is not None:
            return self._write_int8(model, part, traced.shapes, self.calibration.images)
        if self.options.quantize:
            graph.store_bfloat16(model)
            verified = self._verify(model, part, traced.shapes, self.options.quantize)
        return verified

    def _write_int8(
        self, model: Any, part: Path, shapes: Shapes, pictures: Sequence[np.ndarray]
    ) -> Verified:
        """Write as many convolutions in whole numbers as the masks allow; InputError where half of
        them are too many."""
        from lightning_seg.export._quantize import SPARED, Int8Quantization

        alone = (picture[None] for picture in pictures)
        batches = alone if self.options.processing else one_by_one(pictures, self.side)
        refusal: InputError | None = None
        with Int8Quantization(model, batches) as quantization:
            for share in SPARED:
                spared = quantization.spared(share)
                try:
                    verified = self._verify(
                        quantization.quantized(spared), part, shapes, "int8", len(spared)
                    )
                except MasksChangedError as error:
                    refusal = error
                    continue
                said = f"; {count_text(len(spared), 'convolution')} more in float32"
                return verified._replace(text=verified.text + said * bool(spared))
        assert refusal is not None
        raise refusal

    def _calibrated(self, words: str = "") -> str:
        return f"{words}{self.calibration.origin}" if self.calibration else ""

    def _model(self, traced: Traced) -> Any:
        names = ("mask", "probability") if self.options.processing else ("logits",)
        model = to_onnx(traced, self.options.opset, names)
        axes = (1, 2) if self.options.processing else (2, 3)
        graph.name_dimensions(model, ("batch", *_dimensions(axes)))
        if traced.shapes.side is None and traced.shapes.multiple > 1:
            graph.pad_inputs(model, traced.shapes.multiple, axes)
        return model

    def _verify(
        self,
        model: Any,
        part: Path,
        shapes: Shapes,
        variant: str,
        spared: int = 0,
    ) -> Verified:
        import onnx

        more = {
            "threshold": self.options.threshold,
            "takes": self._takes(shapes),
            "quantization": variant or "none",
        }
        if variant == "int8":
            more |= {"calibrated_on": self._calibrated(), "convolutions_in_float32": str(spared)}
        graph.set_metadata(model, self.facts | more)
        try:
            onnx.save(model, part)
        except ValueError as error:  # protobuf's limit of 2 GiB
            raise InputError(f"this network is too large for one ONNX file: {error}") from error
        run, images = runner(part), self.pictures.images
        if self.options.processing:
            return verify_masks(self.network, self.rule, run, images, shapes.batch, variant)
        batches = (
            one_by_one(images, self.side) if variant else image_batches(images, shapes, self.side)
        )
        return verify_logits(self.network, lambda batch: run(batch)[0], list(batches), variant)

    def _takes(self, shapes: Shapes) -> str:
        channels = self.network.trained.in_channels
        kind = (
            f"uint8 (B, H, W, {channels})"
            if self.options.processing
            else f"float32 (B, {channels}, H, W) in [0, 1]"
        )
        note = input_note(self.network.trained)
        return f"image {kind}: {shapes.describe()}" + f"; {note}" * bool(note)


def _dimensions(axes: tuple[int, int]) -> tuple[str, str, str]:
    return ("height", "width", "channels") if axes == (1, 2) else ("channels", "height", "width")


def to_onnx(
    traced: Traced,
    opset: int,
    outputs: Sequence[str],
) -> Any:
    """The program as an ``onnx.ModelProto`` with the input ``image``; InputError where it cannot
    be written in ``opset``."""
    import torch

    try:
        program = torch.onnx.export(
            traced.program,
            (),
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=list(outputs),
            opset_version=opset,
        )
        model = program.model_proto  # type: ignore[union-attr]
    except Exception as error:  # torch.onnx's own failures are of many types
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FormError(f"torch cannot write this network as ONNX: {line}") from error
    reached = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    if reached != opset:
        raise InputError(
            f"this network cannot be written in opset {opset}; give --opset {reached}."
        )
    return model


def runner(path: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The outputs of an ONNX file as a function of its input, on the CPU; FormError where
    onnxruntime fails."""
    os.environ.setdefault(
        "ORT_DISABLE_TELEMETRY", "1"
    )  # read at import: Linux builds report each session from 1.29 on
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors have no common class but Exception
        raise FormError(
            f"onnxruntime does not load the exported file: {str(error).splitlines()[0]}"
        ) from error
    name = session.get_inputs()[0].name

    def run(images: np.ndarray) -> list[np.ndarray]:
        try:
            return session.run(None, {name: images})
        except Exception as error:
            cause = str(error).splitlines()[0].rpartition("Status Message: ")[2][-100:]
            raise FormError(
                f"onnxruntime does not run the exported file on images {images.shape}: {cause}"
            ) from error

    return run
