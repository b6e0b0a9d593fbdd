"""What ``lightning-seg models`` prints."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

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
    own = [str(each) for name, each in arguments.items() if name not in _KEYS_OF_THEIR_OWN]
    lines = [inspect.getdoc(inspect.getmodule(cls)) or "", "", inspect.getdoc(cls) or "", ""]
    lines += ["options (model.options.<name>):", *(f"  {each}" for each in own or ["none"])]
    encoder = arguments.get("encoder")
    if encoder is None:
        lines += ["", "encoder: its own; model.encoder stays out"]
    else:
        lines += ["", f"encoder (model.encoder, model.encoder_options): {encoder}"]
    return "\n".join(lines)


def encoders(pattern: str) -> str:
    """timm's names that match ``pattern``, with their pre-trained tags."""
    import timm

    return "\n".join(
        timm.list_models(pattern, include_tags=True)
        or [f"timm has no encoder that matches {pattern!r}."]
    )
