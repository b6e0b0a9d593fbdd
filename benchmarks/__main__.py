"""``python -m benchmarks [names] [--smoke] [--compile]``: measure here and write ``benchmarks/RESULTS.md`` and ``results/``.

Each benchmark is a module with ``run(smoke, compiled)``, which returns a `Section` (or its Markdown alone).
"""

import argparse
import importlib
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks._section import Section
from lightning_seg.errors import one_sentence, unknown
from lightning_seg.files import write_whole
from lightning_seg.options import OptionParser
from lightning_seg.runs.environment import environment, package_version
from lightning_seg.runs.gpus import default_device

PEERS = (
    "training",
    "step",
    "latency",
    "memory",
    "growth",
    "startup",
)  # against what one would use otherwise
BENCHMARKS = (
    "exports",
    "hpo",
    "loader",
    "network_steps",
    "predict",
    "sa_unet_v2",
    "volumes",
    *PEERS,
)
LONG = ("scores",)  # run where they are named, or with --long
RESULTS = Path(__file__).parent / "RESULTS.md"
PACKAGES = (
    "segmentation_models_pytorch",
    "monai",
    "albumentations",
    "torchmetrics",
    "onnxruntime",
)  # compared
HEAD = (
    "# Measured\n\nEach section is written by `python -m benchmarks <its name>`; its last line says with what, and how busy the "
    "machine was.\n"
)


def main(args: list[str]) -> None:
    """Run the named benchmarks, or all; each section is on disk before the next one starts."""
    options = _parser().parse_args(args)
    for name in options.names:
        if name not in BENCHMARKS + LONG:
            raise unknown("benchmark", name, BENCHMARKS + LONG)
    results = options.results or (None if options.smoke else RESULTS)
    for name in options.names or BENCHMARKS + (LONG if options.long else ()):
        facts = _facts()
        found = importlib.import_module(f"benchmarks.{name}").run(options.smoke, options.compile)
        section = found if isinstance(found, Section) else Section(found)
        links = (
            section.write(results.parent / "results", name, facts | {"smoke": options.smoke})
            if results
            else []
        )
        text = "\n\n".join([section.text, *links, _origin(facts, options.smoke)])
        print(f"## {name}\n\n{text}\n", flush=True)
        if results:
            write_section(results, name, text)


def _facts() -> dict[str, str]:
    """With what is measured, and what else the machine was doing just before."""
    facts = environment(default_device()) | {name: package_version(name) for name in PACKAGES}
    facts |= {"date": f"{datetime.now(UTC):%Y-%m-%d}"}
    return facts | {"load before": f"{os.getloadavg()[0]:.1f}"}


def _origin(facts: dict[str, str], smoke: bool) -> str:
    text = ", ".join(f"{key} {value}" for key, value in facts.items())
    return f"SMOKE RUN, no measurement: {text}." if smoke else f"Measured with: {text}."


def write_section(file: Path, name: str, section: str) -> None:
    """Put ``section`` under ``## name``, in place of what stood there; the other sections stay."""
    text = file.read_text(encoding="utf-8") if file.is_file() else HEAD
    head, *parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True)) | {name: section}
    content = [head.strip(), *(f"## {key}\n\n{value.strip()}" for key, value in sections.items())]
    write_whole(file, ("\n\n".join(content) + "\n").encode())


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="python -m benchmarks",
        description="What the project's speed is on this machine, against its peers.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"of {', '.join(BENCHMARKS)} (default: all)"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="tiny and twice: says that it runs, not how fast"
    )
    parser.add_argument(
        "--compile", action="store_true", help="measure torch.compile too (needs a C++ compiler)"
    )
    parser.add_argument(
        "--long", action="store_true", help=f"with {', '.join(LONG)}, which takes half an hour"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help=f"default {RESULTS.name} beside this; none for --smoke",
    )
    return parser


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
