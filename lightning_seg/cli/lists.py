"""``lightning-seg models | encoders | losses | recipes``: names that a recipe may hold, read without
torch where that is possible."""

import inspect
from textwrap import shorten

from lightning_seg.cli.light_imports import stand_ins
from lightning_seg.files.shipped import shipped_names, shipped_title
from lightning_seg.options import OptionParser

_WIDTH = 118
# of those that recipes here start from and tests hold to known weights: name -> what it is
_USUAL_ENCODERS = {
    "mobilenetv2_100.ra_in1k": "1.8 M parameters, for CPUs",
    "efficientnet_b0.ra_in1k": "3.6 M, of UNet-A's sweep",
    "resnet34.a1_in1k": "21 M, of many papers",
    "resnet50.a1_in1k": "24 M, of TransUNet and others",
    "convnext_tiny.fb_in1k": "28 M, of UNet-A's best",
    "swin_tiny_patch4_window7_224.ms_in1k": "28 M, a transformer",
}


def list_models(args: list[str]) -> None:
    """Print the networks, or what one of them takes."""
    parser = OptionParser(
        prog="lightning-seg models", description="List networks, or the options of one."
    )
    parser.add_argument("name", nargs="?", help="an architecture")
    parser.add_argument(
        "--counts",
        action="store_true",
        help="parameters and multiply-adds over the four encoders of UNet-A",
    )
    parser.add_argument("--size", type=int, default=256, help="side of the image for --counts")
    parser.add_argument(
        "--encoders", metavar="GLOB", help="list timm's encoders that match, such as 'resnet*'"
    )
    options = parser.parse_args(args)
    from lightning_seg.models.frame import listing

    if options.encoders:
        text = listing.encoders(options.encoders)
    elif options.name:
        text = listing.describe_network(options.name)
    else:
        text = listing.overview(options.size if options.counts else None)
    print(text)


def list_recipes(args: list[str]) -> None:
    """Print the recipes that ship."""
    parser = OptionParser(
        prog="lightning-seg recipes",
        description="The recipes that ship; `lightning-seg fit -c NAME` trains one from any folder.",
    )
    parser.parse_args(args)
    names = shipped_names("recipe")
    width = max(map(len, names)) + 2
    for name in names:
        title = shorten(shipped_title("recipe", name), _WIDTH - width, placeholder=" ...")
        print(f"{name:{width}}{title}")
    print(
        "\n`lightning-seg fit -c NAME [--any.key value]` trains one; `data adopt` writes your own."
    )


def list_losses(args: list[str]) -> None:
    """Print the terms of ``model.loss`` with their options."""
    parser = OptionParser(
        prog="lightning-seg losses",
        description="The terms of model.loss, with their options: --model.loss '{bce: 0.5, dice: 0.5}'.",
    )
    parser.parse_args(args)
    with stand_ins():
        from lightning_seg.training.losses import SOFTMAX_TERMS, TERMS
    terms = TERMS | SOFTMAX_TERMS
    for name, term in sorted(terms.items()):
        given = list(inspect.signature(term).parameters.values())[3:]
        options = ", ".join(f"{each.name}={each.default}" for each in given)
        about = " ".join(
            (inspect.getdoc(term) or "").partition("\n\n")[0].replace("``", "").split()
        )
        if name in SOFTMAX_TERMS:
            about = f"Exclusive classes only. {about}"
        print(f"{name:15}{shorten(about, _WIDTH - 15, placeholder=' ...')}")
        if options:
            print(f"{'':15}  options: {options}")
    print(
        "\n--model.loss '{bce: 0.5, dice: {weight: 0.5, smooth: 1}}' is the weighted sum of terms."
    )


def list_encoders(args: list[str]) -> None:
    """Print encoders: a choice, or those of timm that match a pattern."""
    parser = OptionParser(
        prog="lightning-seg encoders",
        description="Encoders for model.encoder: the usual ones, or all of timm's that match.",
    )
    parser.add_argument("pattern", nargs="?", help="such as 'resnet*'; '*' lists all")
    given = parser.parse_args(args)
    if given.pattern:
        from lightning_seg.models.frame.listing import encoders

        print(encoders(given.pattern))
        return
    for name, about in _USUAL_ENCODERS.items():
        print(f"{name:40}{about}")
    print(
        "\n`lightning-seg encoders 'resnet*'` lists those of timm that match. --model.encoder takes a "
        "name,\nwith --model.pretrained true its weights; null is a network's own encoder, from scratch."
    )
