"""``python -m hpo <command>``: tune recipes with Optuna."""

import sys
from importlib import import_module

from lightning_seg.errors import one_sentence, unknown

HOMES = {  # command -> the module whose `main` takes the arguments after it
    "run": "hpo.run",
    "best": "hpo.results.best",
    "export": "hpo.results.export",
    "repeat": "hpo.results.repeat",
    "plot": "hpo.results.plots",
    "serve": "hpo.serve",
    "serve-storage": "hpo.serve",  # its name before
}


def main(args: list[str]) -> None:
    if args[:1] in (["-h"], ["--help"]):
        print(f"{__doc__}\n\ncommands: {', '.join(HOMES)}; each has a --help of its own.")
        return
    if not args or args[0] not in HOMES:
        raise unknown("command of hpo", " ".join(args[:1]), HOMES)
    if "--storage" in str(args):
        import_module("hpo.storage").hide_password()
    import_module(HOMES[args[0]]).main(args[1:])


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
