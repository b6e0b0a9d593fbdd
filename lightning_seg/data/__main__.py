"""``lightning-seg data``: list the protocols, download data. Loads no torch."""

import argparse
import sys
from textwrap import fill

from lightning_seg.data.download import ARCHIVES, fetch
from lightning_seg.data.splits import SPLITS, Split, load_protocol, protocol_names
from lightning_seg.errors import one_sentence


def main(args: list[str]) -> None:
    """Run ``protocols [name]`` or ``download <dataset> [--root DIR]``; InputError where they are wrong."""
    options = _parser().parse_args(args)
    if options.verb == "download":
        print(fetch(options.dataset, options.root))
    else:
        print(table([load_protocol(name) for name in ([options.name] if options.name else protocol_names())]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lightning-seg data", description="List protocols, download data.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="protocols|download")
    protocols = verbs.add_parser("protocols", help="list the named splits, with their digests, sizes and rules")
    protocols.add_argument("name", nargs="?", help="one of them, or a CSV file of your own")
    download = verbs.add_parser("download", help="fetch a data set from its owners")
    download.add_argument("dataset", help=", ".join(ARCHIVES))
    download.add_argument("--root", metavar="DIR", help="folder for it (default: $LIGHTNING_SEG_DATA)")
    return parser


def table(protocols: list[Split]) -> str:
    """A line for each protocol, its rule below."""
    line = "{:20}{:>8}  {:14}{:>6}{:>6}{:>6}  {}".format
    lines = [line("name", "version", "digest", *SPLITS, "").rstrip()]
    for protocol in protocols:
        sizes = (len(protocol.ids[split]) for split in SPLITS)
        warning = "leaks" if protocol.leaks else ""
        lines.append(line(protocol.name, protocol.version, protocol.digest, *sizes, warning).rstrip())
        lines.append(fill(f"rule: {protocol.rule or 'not stated'}", 110, initial_indent="  ", subsequent_indent="  "))
    return "\n".join(lines)


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
