"""The command line on LightningCLI: ``fit | validate | test | predict``, and `run`, the one way in for every run of the project.

What this adds to LightningCLI: a checkpoint alone rebuilds network and data (``test --ckpt_path X``), ``best`` and ``last`` name
files of the run, options that contradict a checkpoint are refused, errors are one sentence.
"""

import errno
import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_seg.checkpoint import AtomicCheckpointIO, find_checkpoint, read_checkpoint, run_folder
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import InputError, unknown
from lightning_seg.evaluation import SCORES
from lightning_seg.inference import MaskWriter
from lightning_seg.module import NETWORK, SegmentationModule
from lightning_seg.reporting import Dashboard, ScoreReport

COMMANDS = ("fit", "validate", "test", "predict")
LINKED = ("classes", "in_channels")  # of the model, set from the data


for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # seeds, tips and device lists are not news
for _text in (
    "LeafSpec",
    "does not have many workers",
    "smaller than the logging interval",
    "args parameter is intended",
    "recommended to use `self.log",
    "deprecated in v4",
    "The dirpath has changed",
):
    warnings.filterwarnings("ignore", f".*{_text}")


class Parser(LightningArgumentParser):
    """One sentence per error, with the near match of a misspelt key."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(_sentence(str(ex or message), _keys(self)))


class CLI(LightningCLI):
    """LightningCLI for this project's module and data."""

    def __init__(self, args: list[str], checkpoint: Path | None) -> None:
        self.checkpoint = checkpoint
        self.saved: dict[str, Any] | None = read_checkpoint(checkpoint)["hyper_parameters"] if checkpoint else None
        super().__init__(
            SegmentationModule,
            SegmentationDataModule,
            args=args,
            parser_class=Parser,
            seed_everything_default=42,
            auto_configure_optimizers=False,
            save_config_callback=SaveConfigCallback if args[:1] == ["fit"] else None,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "callbacks": [Dashboard(), ScoreReport(), MaskWriter(), _last()],
                "deterministic": "warn",
                "enable_progress_bar": sys.stdout.isatty(),  # a file gets one line an epoch instead
                "log_every_n_steps": 10,
            },
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--name", type=str | None, default=None, help="name of the run (default: that of the recipe)"
        )
        parser.add_argument("--runs", type=str, default="runs", help="folder of all runs")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        for key in LINKED:
            parser.link_arguments(f"data.{key}", f"model.{key}", apply_on="instantiate")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(LearningRateMonitor, "learning_rate")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/dice",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best-epoch={epoch:03d}-dice={val/dice:.4f}",
                "checkpoint.auto_insert_metric_name": False,
            }
        )

    def _parse_ckpt_path(self) -> None:
        """LightningCLI would silently put the checkpoint's settings over those of the command line."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        torch.set_float32_matmul_precision("high")
        self._check_monitor(config.checkpoint.monitor)
        if self.checkpoint is None or self.saved is None:
            return
        config.ckpt_path = str(self.checkpoint)
        for key in set(NETWORK) - set(LINKED):
            if config.model[key] != self.saved[key]:
                raise InputError(
                    f"{self.checkpoint} holds model.{key} = {self.saved[key]!r}, which contradicts {config.model[key]!r}; "
                    f"leave model.{key} out, or train that network."
                )

    @staticmethod
    def _check_monitor(monitor: str | None) -> None:
        """The best epoch is chosen by a validation score: the test set is sealed."""
        if monitor and monitor.startswith("test/"):
            raise InputError(
                f"checkpoint.monitor is {monitor!r}, but the test set is sealed; monitor a val/ score such as 'val/dice'."
            )
        known = ["val/loss", "val/f1", *(f"val/{score}{kind}" for score in SCORES for kind in ("", "_image"))]
        if monitor and not any(monitor == name or monitor.startswith(f"{name}_") for name in known):
            raise unknown("score to monitor", monitor, known)

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        if self.saved is None:
            return
        for key, what in (("classes", "classes"), ("in_channels", "channels")):
            ours, theirs = self.model.hparams[key], self.saved[key]
            if (len(ours) != len(theirs)) if key == "classes" else (ours != theirs):
                raise InputError(
                    f"{self.checkpoint} was trained for {what} {theirs!r}, but the data has {ours!r}; give data it fits."
                )

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        if self._get(self.config_init, "trainer.logger") in (None, True):
            kwargs["logger"] = self._logger()
        if not self._get(self.config_init, "trainer.plugins"):
            kwargs["plugins"] = [AtomicCheckpointIO()]
        return super().instantiate_trainer(**kwargs)

    def _logger(self) -> TensorBoardLogger:
        """``runs/<name>/version_N``: that of the checkpoint, or a new one."""
        config = self.config[self.subcommand]
        runs, name, version = config.runs, config.name or _recipe_name(config.get("config")), None
        run = run_folder(self.checkpoint) if self.checkpoint else None
        if run is not None and config.name in (None, run.parent.name):
            runs, name, version = run.parent.parent, run.parent.name, run.name
        return TensorBoardLogger(
            runs, name=name or self.config[self.subcommand].model.architecture, version=version, default_hp_metric=False
        )

    def before_fit(self) -> None:
        if self.checkpoint is None:
            self.model.load_encoder_weights()


def _last() -> ModelCheckpoint:
    """Keeps the latest epoch beside the best one (``save_last`` would keep it only where it is the best)."""
    return ModelCheckpoint(
        monitor=None, filename="last-epoch={epoch:03d}-dice={val/dice:.4f}", auto_insert_metric_name=False
    )


def run(args: list[str]) -> CLI:
    """Parse ``args`` (``["fit", "-c", "recipe.yaml", ...]``) and do what they say; InputError where they are wrong."""
    if not args or args[0] not in COMMANDS:
        return CLI(args, None)
    options = _peek(args)
    checkpoint = _checkpoint(args[0], options)
    with tempfile.TemporaryDirectory() as folder:
        base = _base_config(args[0], options, checkpoint)
        if base:
            file = Path(folder) / "checkpoint.yaml"
            file.write_text(yaml.safe_dump(base))
            args = [args[0], "--config", str(file), *args[1:]]
        return CLI(args, checkpoint)


def main(args: list[str] | None = None) -> None:
    """`run` for the shell: an error is one sentence on stderr and exit code 2."""
    try:
        run(list(sys.argv[1:] if args is None else args))
    except InputError as error:
        _fail(str(error))
    except torch.cuda.OutOfMemoryError as error:
        _fail(f"the GPU has not enough memory; lower data.batch_size or data.size ({str(error).splitlines()[0]})")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
            raise
        _fail(
            f"cannot write: {error.strerror}{f' ({error.filename})' if error.filename else ''}; files written before are intact."
        )


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _peek(args: list[str]) -> dict[str, list[str]]:
    """The values of the few options that must be known before parsing."""
    names = {"-c": "config", "--config": "config", "--ckpt_path": "ckpt_path", "--name": "name", "--runs": "runs"}
    found: dict[str, list[str]] = {name: [] for name in names.values()}
    for position, arg in enumerate(args):
        option, equals, value = arg.partition("=")
        if option in names and (equals or position + 1 < len(args)):
            found[names[option]].append(value if equals else args[position + 1])
    return found


def _checkpoint(command: str, options: dict[str, list[str]]) -> Path | None:
    """The checkpoint file that ``--ckpt_path`` means."""
    given = options["ckpt_path"][-1] if options["ckpt_path"] else None
    if given in (None, "null"):
        if command == "fit":
            return None
        raise InputError(
            f"`{command}` needs --ckpt_path: a .ckpt file, or `best` or `last` of the run that -c or --name names."
        )
    if given not in ("best", "last"):
        return Path(given)
    name = options["name"][-1] if options["name"] else _recipe_name(options["config"])
    if name is None:
        raise InputError(f"--ckpt_path {given} needs -c <recipe> or --name <run> to know of which run.")
    return find_checkpoint(Path(options["runs"][-1] if options["runs"] else "runs") / name, given)


def _base_config(command: str, options: dict[str, list[str]], checkpoint: Path | None) -> dict[str, Any]:
    """What the checkpoint says, under everything that the command line says."""
    if checkpoint is None:
        return {}
    if command == "fit":
        folder = run_folder(checkpoint)
        saved = folder / "config.yaml" if folder else None
        return yaml.safe_load(saved.read_text()) if saved and saved.is_file() and not options["config"] else {}
    content = read_checkpoint(checkpoint)
    model = {k: v for k, v in content["hyper_parameters"].items() if not k.startswith("_") and k not in LINKED}
    data = {k: v for k, v in content.get("datamodule_hyper_parameters", {}).items() if not k.startswith("_")}
    quiet = {"return_predictions": False} if command == "predict" else {"verbose": False}
    return {"seed_everything": data.pop("seed", 42), "model": model, "data": data, **quiet}


def _recipe_name(configs: Any) -> str | None:
    """The stem of the last recipe: ``experiments/unet_a.yaml`` -> ``unet_a``."""
    paths = [Path(str(getattr(c, "relative", c))) for c in (configs or []) if c is not None]
    stems = [path.stem for path in paths if path.suffix in (".yaml", ".yml") and path.stem != "checkpoint"]
    return stems[-1] if stems else None


def _keys(parser: Any, prefix: str = "") -> Iterator[str]:
    """All dotted keys that a parser knows, of its subcommands too."""
    for action in parser._actions:
        yield prefix + action.dest
        choices = getattr(action, "choices", None)
        if isinstance(choices, dict):
            for sub in choices.values():
                if hasattr(sub, "_actions"):
                    yield from _keys(sub)


def _sentence(message: str, keys: Iterator[str]) -> str:
    """jsonargparse's message on one line, with the near match of an unknown key."""
    text = " ".join(message.split())
    union = re.match(r'Parser key "([\w.]+)".*Subtypes: \[(.*?)\].*Given value: (.*)', text)
    if union:
        types = re.sub(r"<class '(\w+\.)*(\w+)'>", r"\2", union.group(2)).replace("typing.", "")
        return f"{union.group(1)} does not take {union.group(3)!r}; give one of the types {types}."
    match = re.search(r"[Ooption key]* ?'(?:--)?([\w.\-/]+)'? (?:is )?not (?:accepted|expected)", text) or re.search(
        r"[Uu]nrecognized arguments: (?:--)?([\w.\-]+)", text
    )
    if not match:
        return text
    given = match.group(1)
    known = sorted({k for k in keys if "help" not in k})
    near = get_close_matches(given, known, n=1, cutoff=0.5) or get_close_matches(
        given.rpartition(".")[2], [k.rpartition(".")[2] for k in known], n=1, cutoff=0.5
    )
    return f"there is no option {given!r}" + (f"; did you mean {near[0]!r}?" if near else f": {text}")
