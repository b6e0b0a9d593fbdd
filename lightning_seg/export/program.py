"""``lightning-seg export program``: a checkpoint as a program of torch.export, or compiled for
this machine's processor.

>>> import torch
>>> logits = torch.export.load("model.pt2").module()(torch.zeros(1, 3, 256, 256))               # plain
>>> logits = torch._inductor.aoti_load_package("model.pt2")(torch.zeros(1, 3, 256, 256))        # --aot

A plain program refuses sizes that it does not take; a compiled one checks nothing, and what it
gives for them is wrong.
"""

import argparse
import io
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_seg.errors import InputError, unknown
from lightning_seg.export._facts import check_output, input_note, read_side
from lightning_seg.export._file_export import (
    Model,
    add_file_options,
    check_side,
    export_parser,
    open_export,
    say_of_networks,
    written,
)
from lightning_seg.export._graph import Logits
from lightning_seg.export._trace import FormError, Shapes, Traced, freest, logits_forms
from lightning_seg.export.verify import Function, Verified, image_batches, verify_logits
from lightning_seg.files.leftovers import part_folder
from lightning_seg.inference.ensemble import Ensemble
from lightning_seg.runs.naming import named_checkpoints, named_cross_validations

PRECISIONS = ("32", "bf16")
VERIFIED = 4  # pictures
FACTS = "lightning_seg.json"  # in the plain program: classes, size, checkpoint, ...


def main(args: Sequence[str]) -> None:
    """``lightning-seg export program``; see its ``--help``."""
    given = _program_parser().parse_args(args)
    if given.precision not in PRECISIONS:
        raise unknown("precision", given.precision, PRECISIONS)
    side = read_side(given.size)
    checkpoints = named_checkpoints(given)
    say_of_networks(checkpoints, named_cross_validations(given))
    lines = export_program(
        checkpoints,
        given.output,
        given.aot,
        given.precision,
        side,
        given.images,
        given.trust_code,
    )
    print(f"exported:  {given.output} ({given.output.stat().st_size / 2**20:.1f} MiB)")
    print("\n".join(lines))


def _program_parser() -> argparse.ArgumentParser:
    parser = export_parser("program", "A checkpoint as a torch program.", ensemble=True)
    add_file_options(parser, ".pt2")
    aot = "compiled for processors like this one (needs a C++ compiler, takes minutes)"
    parser.add_argument("--aot", action="store_true", help=aot)
    numbers = "32 (default), or bf16: mixed precision, for CPUs that have it, if masks stay"
    parser.add_argument("--precision", default="32", help=numbers)
    return parser


def export_program(
    checkpoint: Model,
    output: Path,
    aot: bool = False,
    precision: str = "32",
    size: int | None = None,
    images: str | None = None,
    trust_code: bool = False,
) -> list[str]:
    """Write ``output``, a function from images (B, C, H, W) float32 in [0, 1] to logits, after it
    gave those of the checkpoint.

    Args:
        checkpoint: see `open_export`.
        aot: compiled by AOTInductor; else a program that torch interprets, compiles or converts.
        precision: of `PRECISIONS`.
        size: the only height and width; None: free, where the network allows.
        images: folder of those that verify it; None: of the validation split, or phantoms.

    Returns what it takes and what its verification found, in lines. Errors: as of `export_onnx`.
    """
    check_output(output, ".pt2")
    check_side(size)
    if aot:
        _check_compiler()
    job = open_export(checkpoint, size, images, VERIFIED, trust_code)
    network, side = job.network, job.side
    logits = Logits(network, precision == "bf16")
    forms = logits_forms(logits, network.trained.in_channels, size, side)
    facts = job.facts | {"precision": precision}
    variant = "" if precision == "32" else precision

    def attempt(traced: Traced, part: Path) -> Verified:
        if not _takes_side(side, traced.shapes):
            raise FormError(
                f"its images have {side} pixels a side, no multiple of {traced.shapes.multiple}."
            )
        run = _write_program(part, traced, aot, facts)
        batches = image_batches(job.pictures.images, traced.shapes, side)
        allowed = [batch for batch in batches if _allowed(batch, traced)]
        return verify_logits(network, run, allowed, variant)

    with written(output, ".pt2") as part:
        shapes, verified = freest(forms, lambda traced: attempt(traced, part))
    unchecked = "; it does not check that, and other sizes give wrong masks" if aot else ""
    return [
        f"takes:     {_takes(network, shapes)}{unchecked}",
        f"verified:  on {job.pictures.origin}: {verified.text}",
    ]


def _allowed(batch: np.ndarray, traced: Traced) -> bool:
    """Tell whether the program takes the size."""
    return all(_takes_side(side, traced.shapes) for side in batch.shape[2:])


def _takes_side(side: int, shapes: Shapes) -> bool:
    """Tell whether the program takes a side: a torch program holds to its multiples."""
    within = side % shapes.multiple == 0 and side >= 2 * shapes.multiple
    return shapes.side is not None or within


def _takes(network: Ensemble, shapes: Shapes) -> str:
    note = input_note(network.trained)
    shape = f"image float32 (B, {network.trained.in_channels}, H, W) in [0, 1]"
    return f"{shape}: {shapes.describe(pads=False)}" + f"; {note}" * bool(note)


def _write_program(
    part: Path,
    traced: Traced,
    aot: bool,
    facts: dict[str, Any],
) -> Function:
    """Write the program and load it again, as a function."""
    run: Any
    if aot:
        with part_folder(part.with_name("model.pt2")) as scratch:
            package = scratch / "model.pt2"  # inductor takes no other suffix
            _compile(traced, package)
            run = torch._inductor.aoti_load_package(str(package))
            shutil.move(package, part)
    else:
        buffer = io.BytesIO()
        torch.export.save(traced.program, buffer, extra_files={FACTS: json.dumps(facts)})
        part.write_bytes(buffer.getvalue())
        run = torch.export.load(io.BytesIO(buffer.getvalue())).module()

    @torch.no_grad()
    def logits(images: np.ndarray) -> np.ndarray:
        try:
            return run(torch.from_numpy(images)).float().numpy()
        except (AssertionError, RuntimeError) as error:  # a guard of the program, a kernel
            raise FormError(
                f"the program does not take images {images.shape}: {str(error).splitlines()[0]}"
            ) from error

    return logits


def _compile(traced: Traced, package: Path) -> None:
    try:
        torch._inductor.aoti_compile_and_package(traced.program, package_path=str(package))
    except Exception as error:  # a compiler's failure reaches us as many types
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise FormError(f"AOTInductor cannot compile this network: {line}") from error


def _check_compiler() -> None:
    if not any(
        shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++") if name
    ):
        raise InputError(
            "--aot needs a C++ compiler, and neither g++ nor clang++ is installed; install one, "
            "or leave --aot out."
        )
