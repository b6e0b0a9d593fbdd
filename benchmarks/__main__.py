"""``python -m benchmarks [names] [--smoke] [--compile]``: measure on the CPU and write ``benchmarks/RESULTS.md``."""

import argparse
import importlib
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks._environment import environment
from lightning_seg.errors import one_sentence, unknown

BENCHMARKS = ("hpo", "loader", "predict", "sa_unet_v2", "volumes")  # modules with run(smoke, compiled) -> Markdown
RESULTS = Path(__file__).parent / "RESULTS.md"
HEAD = "# Measured\n\nEach section is written by `python -m benchmarks <its name>`, on an otherwise idle machine.\n"


def main(args: list[str]) -> None:
    """Run the named benchmarks, or all; each section is on disk before the next one starts."""
    options = _parser().parse_args(args)
    for name in options.names:
        if name not in BENCHMARKS:
            raise unknown("benchmark", name, BENCHMARKS)
    results = options.results or (None if options.smoke else RESULTS)
    for name in options.names or BENCHMARKS:
        origin = _origin(options.smoke)
        body = importlib.import_module(f"benchmarks.{name}").run(options.smoke, options.compile)
        section = f"{body}\n\n{origin}"
        print(f"## {name}\n\n{section}\n", flush=True)
        if results:
            write_section(results, name, section)


def _origin(smoke: bool) -> str:
    """Of a section: with what it was measured, and what else the machine was doing just before."""
    facts = environment(torch.device("cpu")) | {"date": f"{datetime.now(UTC):%Y-%m-%d}"}
    facts["load before"] = f"{os.getloadavg()[0]:.1f}"
    text = ", ".join(f"{key} {value}" for key, value in facts.items())
    return f"SMOKE RUN, no measurement: {text}." if smoke else f"Measured with: {text}."


def write_section(file: Path, name: str, section: str) -> None:
    """Put ``section`` under ``## name``, in place of what stood there; the other sections stay."""
    text = file.read_text(encoding="utf-8") if file.is_file() else HEAD
    head, *parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True)) | {name: section}
    content = [head.strip(), *(f"## {key}\n\n{value.strip()}" for key, value in sections.items())]
    part = file.with_suffix(".part")
    part.write_text("\n\n".join(content) + "\n")
    os.replace(part, file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What the project's speed is on this CPU."
    )
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--smoke", action="store_true", help="tiny and twice: says that it runs, not how fast")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too (needs a C++ compiler)")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help=f"default {RESULTS.name} beside this; none for --smoke"
    )
    return parser


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
