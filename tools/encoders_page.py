"""Tries the smallest model of each family of timm as an encoder of U-Net, and writes
``docs/encoders.md``.

    python tools/encoders_page.py            # all families, about ten minutes
    python tools/encoders_page.py nest pit   # these alone; the others stay as they are

Weights are random. A family that takes 96 x 64 pixels, forward and backward, takes any size.
"""

import json
import logging
import sys
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from timm.models import _registry

import lightning_seg as ls
from lightning_seg.errors import InputError
from lightning_seg.tables import Table

ROOT = Path(__file__).resolve().parents[1]
PAGE, KEPT = ROOT / "docs" / "encoders.md", ROOT / "docs" / "encoders.json"
ANY_SIZE = (96, 64)
HUGE = 10**12
TEXT = """# Encoders of timm

Written by `python tools/encoders_page.py`; do not edit. timm {version}.

`model.encoder` takes any model of timm by name; `lightning-seg models --encoders 'convnext*'` lists
them. Below stands each family (a module of timm) with its smallest model, tried in U-Net with random
weights, forward and backward. *Maps*: the family's own pyramid. *Taps*: a plain transformer or mixer
whose maps have one stride, made a pyramid by `PlainPyramid`. Of {families} families {any} take images of
any size, {own} their own size, and {refused} are refused.

{table}

*Or such*: others of like size, but not 96 x 64. An encoder of one size says which: `set data.size
to 224`. `encoder_options: {{img_size: 256}}` lets
timm build many of them for another one. The refused give no map finer than an eighth of the picture,
or maps whose strides are no powers of two, from which no mask of its outline is to be had.
"""


class Tried(NamedTuple):
    """What became of one family."""

    family: str
    models: int
    name: str
    works: str
    pyramid: str


def tried(family: str, names: list[str]) -> Tried:
    """The smallest model of a family in U-Net."""
    sizes = {name: count_parameters(name) for name in names}
    name = min(names, key=lambda each: (sizes[each], each))
    try:
        net = ls.create("unet", encoder=name).train()
    except InputError as error:
        return Tried(family, len(names), name, "refused", str(error).partition(", neither")[0])
    encoder: Any = net.encoder
    strides = ", ".join(map(str, encoder.strides))
    pyramid = f"{'maps' if encoder.pyramid is None else 'taps'}, strides {strides}"
    own = "{} x {} pixels alone" if encoder.one_size else "{} x {} pixels or such"
    for size, words in ((ANY_SIZE, "any size"), (encoder.own_size, own)):
        try:
            found = net(torch.rand(2, 3, *size))
            getattr(found, "logits", found).sum().backward()
            return Tried(family, len(names), name, words.format(*size), pyramid)
        except InputError as error:
            sentence = str(error)
    return Tried(family, len(names), name, "refused", sentence)


def count_parameters(name: str) -> int:
    """Of a model, without its memory; `HUGE` where timm cannot build it so."""
    try:
        with torch.device("meta"):
            model = timm.create_model(name)
    except Exception:
        return HUGE
    return sum(each.numel() for each in model.parameters())


def families() -> dict[str, list[str]]:
    """family -> the names of its models."""
    found = defaultdict(list)
    for name in timm.list_models():
        found[_registry._model_to_module[name]].append(name)
    return dict(sorted(found.items()))


def page(rows: list[Tried]) -> str:
    """The page as Markdown."""
    refused = sum(row.works == "refused" for row in rows)
    anywhere = sum(row.works == "any size" for row in rows)
    header = ("family", "models", "tried", "takes", "pyramid, or why not")
    cells = [(row.family, row.models, f"`{row.name}`", row.works, row.pyramid) for row in rows]
    facts: dict[str, Any] = {"families": len(rows), "any": anywhere, "refused": refused}
    facts |= {"own": len(rows) - anywhere - refused, "version": timm.__version__}
    return TEXT.format(table=Table(header, cells).markdown(), **facts)


def main(args: list[str]) -> None:
    """Try the families, and write the page."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.manual_seed(0)
    kept = json.loads(KEPT.read_text()) if args and KEPT.is_file() else {}
    for family, names in families().items():
        if not args or family in args:
            kept[family] = tried(family, names)._asdict()
            print(family, kept[family]["works"], flush=True)
    rows = [Tried(**kept[family]) for family in sorted(kept)]
    KEPT.write_text(json.dumps({row.family: row._asdict() for row in rows}, indent=1) + "\n")
    PAGE.write_text(page(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
