"""What ``lightning-seg models`` prints."""

import ast
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from lightning_seg.models.frame import registry

UNET_A_ENCODERS = (None, "efficientnet_b0", "convnext_tiny.fb_in1k", "swin_tiny_patch4_window7_224")

# arguments of a network that are keys of a recipe, or come from the data
_KEYS_OF_THEIR_OWN = ("encoder", "encoder_options", "in_channels", "num_classes")


def title(architecture: str) -> str:
    """The first sentences of the network's file, read without importing it."""
    source = (Path(__file__).parent.parent / f"{architecture}.py").read_text(encoding="utf-8")
    head, _, _ = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")
    return " ".join(head.split())


_CITATION = re.compile(
    r'(?P<name>[^"]+?): (?P<authors>[^"]+), "(?P<title>[^"]+)", (?P<venue>.*?) ?(?P<year>\d{4})\b'
)


def bibtex(architecture: str) -> str:
    """The paper of a network as an entry for BibTeX, as far as `title` knows it; empty where that
    names none."""
    found = _CITATION.match(title(architecture))
    if found is None:
        return ""
    named = found["authors"].replace(" et al.", ", others").split(", ")
    fields = {
        "author": " and ".join(named),
        "title": f"{{{found['title']}}}",
        "booktitle": found["venue"],
        "year": found["year"],
    }
    kind = "inproceedings" if found["venue"] else "misc"
    lines = [f"  {key:9} = {{{value}}}," for key, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{architecture},", *lines, "}"])


def overview(size: int | None = None) -> str:
    """All networks with their papers; with ``size``, parameters and multiply-adds of those that
    take any encoder."""
    lines = [f"{name:22}{title(name)}" for name in registry.names()]
    if size is None:
        return "\n".join(
            [
                *lines,
                "",
                "`lightning-seg models <name>` lists the options of one, `--counts` parameters and multiply-adds.",
            ]
        )
    header = f"{'':18}" + "".join(f"{(e or 'scratch').split('.')[0]:>32}" for e in UNET_A_ENCODERS)
    rows = [
        f"{name:18}" + "".join(f"{_cost(name, e, size):>32}" for e in UNET_A_ENCODERS)
        for name in _any_encoder()
    ]
    note = f"Parameters and GMACs (multiply-adds of convolutions and matrix products, 1 image of 3 x {size} x {size})."
    return "\n".join([note, header, *rows])


def _any_encoder() -> list[str]:
    """Networks whose ``encoder`` is free: None, or a timm name."""
    options = {name: registry.options(name).get("encoder") for name in registry.names()}
    return [
        name for name, encoder in options.items() if encoder is not None and encoder.default is None
    ]


def _cost(architecture: str, encoder: str | None, size: int) -> str:
    parameters, macs = count(architecture, size, encoder=encoder)
    return f"{parameters:,} {macs / 1e9:.2f} G"


def count(
    architecture: str,
    size: int,
    **arguments: Any,
) -> tuple[int, int]:
    """Parameters and multiply-adds for one image, on the meta device: no memory, no arithmetic."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        net = registry.create(architecture, **arguments).eval()
        image = torch.empty(1, arguments.get("in_channels", 3), size, size)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            net(image)
    return sum(p.numel() for p in net.parameters()), counter.get_total_flops() // 2


def describe_network(architecture: str) -> str:
    """The file's head, and what ``model.options`` takes with types and defaults."""
    cls = registry.find(architecture)
    arguments = registry.options(architecture)
    own = [each for name, each in arguments.items() if name not in _KEYS_OF_THEIR_OWN]
    lines = [inspect.getdoc(inspect.getmodule(cls)) or "", "", inspect.getdoc(cls) or "", ""]
    lines += ["options (model.options.<name>):", *(map(_option_line, own) if own else ["  none"])]
    encoder = arguments.get("encoder")
    if encoder is None:
        lines += ["", "encoder: its own; model.encoder stays out"]
    else:
        own_one = "" if encoder.default is None else f", default {encoder.default}"
        lines += [
            "",
            f"encoder (model.encoder, model.encoder_options): a name of timm's{own_one}; ",
        ]
        lines[-1] += "`lightning-seg encoders` lists them" + _OWN_ENCODER * (
            encoder.default is None
        )
    return "\n".join(lines)


_OWN_ENCODER = "; without one the network has its own, from scratch"
_TYPES: dict[Any, str] = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "true or false",
    NoneType: "null",
    Any: "anything",
}


def _option_line(option: inspect.Parameter) -> str:
    """``  widths: list of integers or null (default null)``."""
    default = option.default
    given = "required" if default is option.empty else f"default {json.dumps(default, default=str)}"
    return f"  {option.name}: {type_words(option.annotation)} ({given})"


def type_words(annotation: Any) -> str:
    """A type in words: ``list of integers or null``, ``'unet_a' or 'leejunhyun'``."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _either([repr(part) for part in parts])
    if origin in (Union, UnionType):
        return _either([type_words(part) for part in parts])
    if origin is tuple and Ellipsis not in parts:
        return f"list of {len(parts)} {type_words(parts[0])}s"
    if origin in (list, tuple, Sequence):
        return f"list of {type_words(parts[0])}s"
    if origin in (dict, Mapping):
        return "mapping"
    return _TYPES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _either(words: Sequence[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def encoders(pattern: str) -> str:
    """timm's names that match ``pattern``, with their pre-trained tags."""
    import timm

    return "\n".join(
        timm.list_models(pattern, include_tags=True)
        or [f"timm has no encoder that matches {pattern!r}."]
    )
