"""``lightning-seg data``: list, adopt, protocols, check, show, prepare, download and cache data.

Loads no torch but to show, to prepare and to read a recipe.
"""

import argparse
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill, shorten
from typing import Any

import yaml

from lightning_seg.data.adopt.command import add_adopt
from lightning_seg.data.download import fetch
from lightning_seg.data.rules import SEED, resolve
from lightning_seg.data.sources.base import (
    DATASETS,
    Source,
    dataset_title,
    source_class,
    trust_source,
)
from lightning_seg.data.splits import SPLITS, Split, load_protocol, protocol_names
from lightning_seg.errors import InputError, one_sentence, unknown
from lightning_seg.files.documents import read_yaml
from lightning_seg.files.shipped import find_shipped
from lightning_seg.options import OptionParser, add_trust_option, shell_command

RULES = """
Rules that split any data set when it is opened (see lightning_seg.data.rules), each keeping groups whole:
  auto, auto-<seed>   80/10/10 % (seed 42); auto: as the data set's own table says, where it does
  fold-<i>-of-<k>     fold i of k tests, the next one validates: fold-1-of-5
  leave-<group>       this group tests, a tenth of the others validates: leave one out
  leave-<column>=<value>
                      images of that value of a column of the table test: leave-centre=A
  half-<seed>-of-<split>-of-<protocol>
                      one half of that split tests, the other validates: half-42-of-val-of-kvasir-unet-a-v2
  reserve-<seed>-of-<protocol or rule>
                      half of its validation images are reserved for a guarantee: reserve-42-of-kvasir-60-20-20-v2
  test-only           everything tests a network that was trained elsewhere"""
_EXIT = """exit code: 0 clean; 1 where something leaks (a group, or two samples that show the same, in two splits), is damaged or
missing (undecodable or mismatched files, ids of the protocol, another number of images than the owners state, a class in a
split) or masks seem inverted; 2 bad input"""


def main(args: list[str]) -> None:
    """Run one verb; InputError where its arguments are wrong. ``check`` ends with exit code 1 where
    it finds a fault."""
    options = _data_parser().parse_args(args)
    if ":" in (getattr(options, "dataset", None) or ""):
        trust_source(options.dataset)
    options.run(options)


def _data_parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="lightning-seg data", description=__doc__.split(": ", 1)[1].split(".")[0]
    )
    verbs = parser.add_subparsers(
        dest="verb", required=True, metavar="list|adopt|protocols|check|show|prepare|download|cache"
    )
    verbs.add_parser("list", help="the data sets that are known").set_defaults(run=_list)
    protocols = verbs.add_parser(
        "protocols", help="list the named splits, with their digests, sizes and rules"
    )
    protocols.add_argument("name", nargs="?", help="one of them, or a CSV file of your own")
    protocols.set_defaults(run=_protocols)
    download = verbs.add_parser("download", help="fetch a data set from its owners")
    about = "such as kvasir_seg; of one that only people can get, an error says where and how"
    download.add_argument("dataset", help=about)
    download.add_argument(
        "--root", metavar="DIR", help="folder for it (default: $LIGHTNING_SEG_DATA)"
    )
    download.set_defaults(run=lambda options: print(fetch(options.dataset, options.root)))
    add_adopt(verbs)
    cache = verbs.add_parser("cache", help="what decoded samples take in the home folder")
    cache.add_argument("--clear", action="store_true", help="remove all of it")
    cache.set_defaults(run=_cache)
    _add_check(verbs)
    _add_show(verbs)
    _add_prepare(verbs)
    return parser


def _add_check(verbs: Any) -> None:
    check = verbs.add_parser(
        "check", help="is a data set what it claims? files, masks, duplicates, leaks", epilog=_EXIT
    )
    _add_dataset(check)
    check.add_argument(
        "--protocol",
        nargs="+",
        action="extend",
        help="names, rules or CSV files (default: its own)",
    )
    check.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="also write a page with thumbnails of what was found",
    )
    check.add_argument(
        "--no_near", action="store_true", help="look for identical pictures alone, which is faster"
    )
    check.add_argument(
        "--likeness",
        type=float,
        metavar="X",
        help="from which two pictures are one view, 0 to 1 (default 0.4; CT: higher)",
    )
    add_trust_option(check)
    check.set_defaults(run=_check_data)


def _add_show(verbs: Any) -> None:
    show = verbs.add_parser("show", help="a contact sheet of what the network sees")
    _add_dataset(show)
    show.add_argument("--protocol", help="a name, rule or CSV file")
    show.add_argument("--augment", help="a preset or a YAML file")
    show.add_argument("--size", type=_read_count, help="height and width in pixels")
    show.add_argument(
        "--copies", type=_read_count, help="of each image, which then are the columns"
    )
    show.add_argument("--split", default="train", choices=SPLITS)
    show.add_argument("--count", type=_read_count, default=12, help="images (default 12)")
    show.add_argument("--epoch", type=int, default=1, help="the first epoch shown (default 1)")
    show.add_argument(
        "--epochs",
        type=_read_count,
        default=5,
        help="epochs, or copies, beside each image (default 5)",
    )
    show.add_argument("--output", type=Path, default=Path("sheet.png"), metavar="FILE")
    add_trust_option(show)
    show.set_defaults(run=_show)


def _add_prepare(verbs: Any) -> None:
    prepare = verbs.add_parser(
        "prepare", help="write a data set with augmented copies of its training images"
    )
    prepare.add_argument("dataset", help=", ".join(sorted(DATASETS)))
    _add_source(prepare)
    prepare.add_argument(
        "--protocol", help="a name, rule or CSV file (default: the data set's own)"
    )
    prepare.add_argument(
        "--size", type=_read_count, default=256, help="height and width in pixels (default 256)"
    )
    prepare.add_argument(
        "--augment",
        type=_read_count,
        default=1,
        metavar="N",
        help="copies of each image, itself among them",
    )
    prepare.add_argument(
        "--preset", default="unet_a", help="of the copies: a preset or a YAML file (default unet_a)"
    )
    prepare.add_argument("--seed", type=int, default=SEED, help=f"of the copies (default {SEED})")
    prepare.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="a new or empty folder, or one begun before",
    )
    prepare.set_defaults(run=_prepare)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    """A data set, or the recipe that names it, and what is given in place of the recipe's."""
    parser.add_argument("dataset", nargs="?", help=f"{', '.join(sorted(DATASETS))}; or give -c")
    parser.add_argument("-c", "--config", type=Path, help="a recipe: its data: section is taken")
    _add_source(parser)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", metavar="DIR", help="where its files lie (default: in $LIGHTNING_SEG_DATA)"
    )
    parser.add_argument(
        "--dataset_options",
        type=_mapping,
        metavar="YAML",
        help="further arguments of the data set: '{mask_threshold: 60}'",
    )


def _read_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _mapping(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no mapping; write '{{name: value}}'")
    return found


def _list(options: argparse.Namespace) -> None:
    for name in sorted(DATASETS):
        print(f"{name:16}{shorten(dataset_title(name), 100, placeholder=' ...')}")
    print(
        "\n--data.dataset NAME trains on one; `lightning-seg data download NAME` fetches it or says "
        "where it is to be had,\n`lightning-seg data adopt FOLDER` takes pictures and masks of your own."
    )


def _protocols(options: argparse.Namespace) -> None:
    named = [options.name] if options.name else protocol_names()
    if options.name in DATASETS and options.name not in protocol_names():
        raise InputError(
            f"{options.name!r} is a data set, whose own protocol is "
            f"{source_class(options.name).default_protocol!r}; `lightning-seg data protocols` lists "
            "those that have a name, and the rules."
        )
    protocols = [load_protocol(name) for name in named]
    print(protocol_table(protocols))
    if not options.name:
        print(RULES)
        return
    home = protocols[0].home
    for first, second, kind in protocols[0].pairs:
        print(f"  {first} ({home[first]}) and {second} ({home[second]}), {kind}")


def protocol_table(protocols: list[Split]) -> str:
    """A line for each protocol, its rule below."""
    line = "{:20}{:>8}  {:14}{:>6}{:>6}{:>6}  {}".format
    lines = [line("name", "version", "digest", *SPLITS, "").rstrip()]
    for protocol in protocols:
        sizes = (len(protocol.ids[split]) for split in SPLITS)
        warning = "leaks" if protocol.leaks else ""
        lines.append(
            line(protocol.name, protocol.version, protocol.digest, *sizes, warning).rstrip()
        )
        lines.append(_indented(f"rule: {protocol.rule or 'not stated'}"))
        if protocol.leaks:
            lines.append(_indented(f"LEAKS: {protocol.leak_sentence}"))
    return "\n".join(lines)


def _indented(text: str) -> str:
    return fill(text, 110, initial_indent="  ", subsequent_indent="  ")


def _cache(options: argparse.Namespace) -> None:
    from lightning_seg.data.store.housekeeping import clear_cache, show_cache

    clear_cache() if options.clear else show_cache()


def _check_data(options: argparse.Namespace) -> None:
    from lightning_seg.data.check import SAME_VIEW, USUAL, examine_data, page, summary

    data = _given_data(options, ("root", "dataset_options"))
    kind = source_class(data["dataset"])
    own = data.get("protocol") or kind.default_protocol
    resolved = [resolve(name, kind) for name in options.protocol or [own]]
    source = _opened(kind, data)
    protocols = [one if isinstance(one, Split) else one(source) for one in resolved]
    threshold = getattr(source, "mask_threshold", None)
    threshold = USUAL if threshold is None else threshold
    likeness = SAME_VIEW if options.likeness is None else options.likeness
    if not 0 < likeness <= 1:
        raise InputError(f"--likeness is {likeness:g}; give a number above 0 and up to 1.")
    report = examine_data(
        data["dataset"], source, protocols, threshold, not options.no_near, likeness, _progress
    )
    summary.print_lines(report)
    if options.html:
        page.write_page(report, source, options.html)
        print(f"page: {options.html}")
    if report.exit_code:
        raise SystemExit(report.exit_code)


def _opened(kind: type[Any], data: Mapping[str, Any]) -> Source:
    given, root = data.get("dataset_options") or {}, data.get("root")
    legal = [name for name in inspect.signature(kind).parameters if name != "root"]
    for name in given:
        if name not in legal:
            raise unknown(f"option of {data['dataset']}", name, legal)
    opened: Source = kind(root=Path(root).expanduser() if root else None, **given)
    return opened


def _progress(
    title: str,
    total: int,
) -> Callable[[Iterable], Iterable]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return lambda items: track(
        items,
        title,
        total or None,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _show(options: argparse.Namespace) -> None:
    from lightning_seg.data.show import show

    if options.epoch < 1:
        raise InputError(f"--epoch is {options.epoch}; give a whole number from 1.")
    replaced = ("root", "protocol", "augment", "size", "copies", "dataset_options")
    data = _given_data(options, replaced)
    epochs = range(options.epoch - 1, options.epoch - 1 + options.epochs)
    rows, columns = show(data, options.split, options.count, epochs, options.output)
    print(
        f"{options.output}: {rows} {options.split} images in rows, as read and then {columns - 1} times augmented"
    )


def _given_data(options: argparse.Namespace, replaced: Sequence[str]) -> dict[str, Any]:
    """The data of `_add_dataset`'s options, of which those named in ``replaced`` come before the
    recipe's."""
    if (options.config is None) == (options.dataset is None):
        raise InputError(
            f"`data {options.verb}` needs a data set or a recipe (-c), and not both; give one."
        )
    data = {"dataset": options.dataset}
    if options.config:
        data = _recipe_data(find_shipped("recipe", options.config))
    if options.trust_code and ":" in data["dataset"]:
        trust_source(data["dataset"])
    return data | {key: value for key in replaced if (value := getattr(options, key))}


def _recipe_data(path: Path) -> dict[str, Any]:
    """The arguments of the data module in a recipe."""
    from lightning_seg.data.datamodule import SegmentationDataModule

    recipe = read_yaml(path)
    data = recipe.get("data") if isinstance(recipe, dict) else None
    if not isinstance(data, dict):
        raise InputError(
            f"{path} has no section data:; give a recipe such as experiments/quickstart.yaml."
        )
    legal = inspect.signature(SegmentationDataModule).parameters
    for key in data:
        if key not in legal:
            raise unknown(f"option data. in {path}", key, legal)
    usual = {"seed": recipe.get("seed_everything", SEED), "dataset": legal["dataset"].default}
    return usual | data


def _prepare(options: argparse.Namespace) -> None:
    from lightning_seg.data.prepare import MANIFEST, prepare

    data = {
        key: getattr(options, key)
        for key in ("dataset", "root", "protocol", "size", "seed", "dataset_options")
    }
    manifest = prepare(data | {"augment": options.preset}, options.augment, options.output)
    print(
        f"{options.output}: {manifest['images']} images and masks, digest {manifest['files_digest'][:12]} ({MANIFEST})"
    )
    if manifest["regions_left_out"]:
        print(
            "regions of interest (fields of view) are not carried along: the data set `folder` knows none"
        )
    data_file = shell_command(options.output / "data.yaml")
    print(f"train on them: lightning-seg fit -c <recipe> -c {data_file}")


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
