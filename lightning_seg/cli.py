"""The command line on LightningCLI: ``fit | validate | test``, and `run`, the one way into every run of the project.

What this adds to LightningCLI: a checkpoint alone rebuilds network and data (``test --ckpt_path X``), ``best`` and ``last`` name
files of the run, options that contradict a checkpoint are refused, errors are one sentence.
"""

import errno
import logging
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_seg.callbacks.run_record import RunRecord
from lightning_seg.callbacks.scores import ScoreReport
from lightning_seg.callbacks.seen_images import SeenImages
from lightning_seg.callbacks.tensorboard import Dashboard
from lightning_seg.callbacks.training_log import TrainingLog
from lightning_seg.callbacks.volume_scores import VolumeScores
from lightning_seg.cli_arguments import LINKED, Given, Parser, base_config, peek
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import InputError, unknown
from lightning_seg.evaluation import SCORES
from lightning_seg.evaluation.measures import FAMILIES
from lightning_seg.evaluation.scoring import Scoring
from lightning_seg.files import whole
from lightning_seg.inference.postprocess import STEPS
from lightning_seg.inference.scored_inference import score_with
from lightning_seg.inference.tta import PASSES
from lightning_seg.runs import Run, find_checkpoint
from lightning_seg.runs.checkpoints import check_trust, read_checkpoint
from lightning_seg.runs.run import new_run
from lightning_seg.runs.trained_on import TrainedOn
from lightning_seg.training.checkpointing import BestCheckpoint, LastCheckpoint, Lineage
from lightning_seg.training.determinism import automatic_determinism
from lightning_seg.training.devices import device_options, spare_devices
from lightning_seg.training.module import NETWORK, OPTIMIZATION, SegmentationModule
from lightning_seg.training.precision import automatic_precision
from lightning_seg.training.processes import end_with_parent, wait_for_parent
from lightning_seg.training.run_place import RunPlace, run_of
from lightning_seg.training.termination import Termination, ended_by_sigterm
from lightning_seg.training.trainer import RunTrainer

COMMANDS = ("fit", "validate", "test")  # `predict` has its own, in `inference`
SCORING = ("validate", "test")

for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # seeds, tips and device lists are not news
for _text in (
    "LeafSpec",
    "does not have many workers",
    "smaller than the logging interval",
    "args parameter is intended",
    "recommended to use `self.log",
    "deprecated in v4",
    "callbacks used to create the checkpoint",
    "exists and is not empty",
    "`srun` command is available",
):
    warnings.filterwarnings("ignore", f"(?s).*{_text}")


class SaveConfigOnce(SaveConfigCallback):
    """The configuration of a run is that of its start; a resumed run leaves it as it is."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        file = run_of(trainer).config_file
        # the main process alone looks: its answer would not be the others', which come later
        if not trainer.is_global_zero or trainer.fast_dev_run or file.exists():
            return
        with whole(file) as part:
            self.parser.save(self.config, str(part), skip_none=False, multifile=False)


class CLI(LightningCLI):
    """LightningCLI for this project's module and data."""

    def __init__(self, args: list[str], given: Given, callbacks: Sequence[Any] = ()) -> None:
        self.given = given
        self.content = read_checkpoint(given.checkpoint) if given.checkpoint else None
        self.precision_note = ""  # why `fit` computes as it does, where that was not said
        super().__init__(
            SegmentationModule,
            SegmentationDataModule,
            args=args,
            parser_class=Parser,
            seed_everything_default=42,
            auto_configure_optimizers=False,
            trainer_class=RunTrainer,
            save_config_callback=SaveConfigOnce if args[:1] == ["fit"] else None,
            trainer_defaults={
                "callbacks": [
                    Dashboard(),
                    ScoreReport(),
                    VolumeScores(),
                    Lineage(),
                    LastCheckpoint(),
                    *callbacks,
                ],
                "devices": 1,  # batch norm and score tables of several are no choice to make unasked
                "enable_model_summary": False,  # `lightning-seg profile` counts what matters
                "enable_progress_bar": sys.stdout.isatty(),  # a file gets one line an epoch instead
                "log_every_n_steps": 10,
            },
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's own, of which some are not this project's."""
        return {
            name: skipped
            for name, skipped in LightningCLI.subcommands().items()
            if name in COMMANDS
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--name",
            type=str | None,
            default=None,
            help="name of the run (default: that of the recipe)",
        )
        parser.add_argument("--runs", type=str, default="runs", help="folder of all runs")
        trust = "let the network of a checkpoint that is not of lightning_seg, package.module:Class, run its code"
        parser.add_argument("--trust_code", action="store_true", help=trust)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)
        for key in LINKED:
            parser.link_arguments(f"data.{key}", f"model.{key}", apply_on="instantiate")
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/dice",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best-epoch={epoch:03d}-dice={val/dice:.4f}",
                "checkpoint.auto_insert_metric_name": False,
            }
        )

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand in SCORING:
            _add_scoring(parser)
        return parser

    def _parse_ckpt_path(self) -> None:
        """LightningCLI would silently put the checkpoint's settings over those of the command line."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        torch.set_float32_matmul_precision("high")
        _check_monitor(config.checkpoint.monitor)
        self.choose_determinism(config)
        if self.subcommand == "fit":
            self.choose_precision(config.trainer)
        if self.content is None:
            return
        check_trust(self.content, self.given.checkpoint, config.trust_code)
        config.ckpt_path = str(self.given.checkpoint)
        fixed = (*NETWORK, *OPTIMIZATION) if self.subcommand == "fit" else NETWORK
        for key in (key for key in fixed if key not in LINKED):
            theirs = self.content["hyper_parameters"].get(key)
            if (config.model[key] or None) != (theirs or None):
                raise InputError(
                    f"{self.given.checkpoint} holds model.{key} = {theirs!r}, which contradicts {config.model[key]!r}; "
                    f"leave model.{key} out, or train anew without --ckpt_path."
                )

    def choose_determinism(self, config: Any) -> None:
        """Put what nobody named into the configuration, so that the run's records show it."""
        trainer = config.trainer
        if trainer.deterministic is not None:
            return
        fixed = config.data.size is not None
        found = automatic_determinism(self.subcommand, trainer.accelerator, fixed)
        trainer.deterministic = found.deterministic
        if trainer.benchmark is None:
            trainer.benchmark = found.benchmark

    def choose_precision(self, trainer: Any) -> None:
        """Put the precision that nobody named into the configuration, so that the run's records show it."""
        if trainer.precision is not None or trainer.plugins:
            return
        if self.content is None:
            trainer.precision, reason = automatic_precision(trainer.accelerator)
        else:  # that of a run which does not say it is Lightning's default
            trainer.precision = self.content.get("lightning_seg", {}).get("precision", "32-true")
            reason = "as this run began"
        self.precision_note = f" ({reason}; --trainer.precision names another)"

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        if self.subcommand in SCORING:
            config = self.config[self.subcommand]
            named = config.ensemble
            scoring = Scoring(
                score_at=config.score_at,
                families=_families(config.measures),
                tta=config.tta,
                postprocess=config.postprocess,
                threshold=config.threshold,
                ensemble=(named,) if isinstance(named, str) else tuple(named),
            )
            for path in scoring.ensemble:
                self._check_data(read_checkpoint(find_checkpoint(path)), path)
            split = "test" if self.subcommand == "test" else "val"
            place = self.datamodule, split
            score_with(self.model, Path(config.ckpt_path), scoring, config.trust_code, *place)
        if self.content is not None:
            self._check_data(self.content, self.given.checkpoint)

    def _trainings(self) -> dict[str, TrainedOn]:
        """What the checkpoint, and each further one of an ensemble, was trained on."""
        found = {str(self.given.checkpoint): TrainedOn.read(self.content or {})}
        named = self.config[self.subcommand].ensemble
        for path in [named] if isinstance(named, str) else named:
            found[path] = TrainedOn.read(read_checkpoint(find_checkpoint(path)))
        return found

    def _check_data(self, content: dict[str, Any], name: str | Path | None) -> None:
        """The data must fit the network of a checkpoint."""
        saved, data = content["hyper_parameters"], self.datamodule
        ours, theirs = list(data.classes), list(saved["classes"])
        reordered = ours != theirs and sorted(ours) == sorted(theirs)
        if len(ours) != len(theirs) or reordered or data.in_channels != saved["in_channels"]:
            raise InputError(
                f"{name} was trained for the classes {theirs} on {saved['in_channels']} channels, "
                f"but the data has {ours} on {data.in_channels}; give data it fits."
            )
        facts = content.get("lightning_seg", {})
        if (
            facts.get("protocol") == data.protocol_name
            and facts.get("protocol_digest") != data.protocol_digest
        ):
            raise InputError(
                f"protocol {data.protocol_name!r} is not the one {name} was trained under: its digest was "
                f"{facts['protocol_digest']} and is now {data.protocol_digest}; restore the file, or train again."
            )

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        run, logger = self._run(), self._get(self.config_init, "trainer.logger")
        self.trainer_defaults["callbacks"].append(RunPlace(run))
        if self.subcommand == "fit":
            self.trainer_defaults["callbacks"].append(TrainingLog(self.precision_note))
        if self.subcommand in SCORING:
            self.trainer_defaults["callbacks"].append(SeenImages(self._trainings()))
        if logger in (None, True):
            kwargs["logger"] = TensorBoardLogger(
                run.folder, name="", version="", default_hp_metric=False
            )
        if logger is not False:
            self.trainer_defaults["callbacks"].append(LearningRateMonitor())
        kwargs |= device_options(self._get(self.config_init, "trainer"))
        try:
            trainer: Any = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError) as error:
            raise InputError(
                f"these trainer options do not work: {' '.join(str(error).split())}"
            ) from error
        for callback in trainer.callbacks:
            _check_sealed(
                f"the monitor of {type(callback).__name__}", getattr(callback, "monitor", None)
            )
        return trainer

    def _run(self) -> Run:
        """The run of the checkpoint, unless another place is named, or a new one."""
        config, given = self.config[self.subcommand], self.given
        root = Path(config.runs).expanduser().resolve()
        run = Run.holding(given.checkpoint, root) if given.checkpoint else None
        if run is None:
            return new_run(root, given.name or config.model.architecture)
        same_root = given.runs is None or root == run.root
        # of a recipe, also the name that the run had before it was renamed
        names = {None, run.name, run.environment.get("name")}
        same_name = config.name in (None, run.name) and (
            self.subcommand != "fit" or config.name or given.name in names
        )
        if same_root and same_name:
            return run
        return new_run(root, given.name or config.model.architecture)

    def before_fit(self) -> None:
        if self.trainer.is_global_zero:
            note = spare_devices(self.trainer.num_devices)
            print(note, end="\n" if note else "")
        self.model.execution.check_machine(self.trainer.strategy.root_device)
        if self.content is None:
            self.model.load_encoder_weights()  # before the data are read: a missing file is found at once


def _add_scoring(parser: LightningArgumentParser) -> None:
    """The options of `test` and `validate`."""
    add = parser.add_argument
    at = "score at the network's size, or with probabilities scaled to the native size of each mask"
    add("--score_at", type=Literal["network", "native"], default="network", help=at)
    families = (
        f"families of measures beside the counts: all, none, or some of [{', '.join(FAMILIES)}]"
    )
    add("--measures", type=str | list[str], default="all", help=families)
    add("--tta", type=str, default="none", help=f"test-time augmentation: {', '.join(PASSES)}")
    cut = "a probability above it is predicted"
    add("--threshold", type=float, default=0.5, help=cut)
    steps = f"what follows the threshold, such as fill_holes,min_area=50, of {', '.join(STEPS)}"
    add("--postprocess", type=str, default="", help=steps)
    add(
        "--ensemble",
        type=str | list[str],
        default=[],
        help="further checkpoints, whose probabilities are averaged",
    )


def _families(given: str | list[str]) -> tuple[str, ...]:
    """The families of measures that ``--measures`` names."""
    named = (
        {"all": tuple(FAMILIES), "none": ()}.get(given, (given,))
        if isinstance(given, str)
        else tuple(given)
    )
    for name in named:
        if name not in FAMILIES:
            raise unknown("family of measures", name, [*FAMILIES, "all", "none"])
    return named


def _seed(value: bool | int) -> int:
    if isinstance(value, bool):
        raise InputError(f"seed_everything is {value}; give a whole number, such as 42.")
    return value


def _check_sealed(what: str, monitor: str | None) -> None:
    """No test score decides anything: not the best epoch, not when training ends."""
    if monitor and monitor.startswith("test/"):
        raise InputError(
            f"{what} is {monitor!r}, but the test set is sealed; monitor a val/ score such as 'val/dice'."
        )


def _check_monitor(monitor: str | None) -> None:
    """The best epoch is chosen by a validation score."""
    _check_sealed("checkpoint.monitor", monitor)
    known = [
        "val/loss",
        "val/f1",
        *(f"val/{score}{kind}" for score in SCORES for kind in ("", "_image")),
    ]
    if monitor and not any(monitor == name or monitor.startswith(f"{name}_") for name in known):
        raise unknown("score to monitor", monitor, known)


def run(args: list[str], callbacks: Sequence[Any] = ()) -> CLI:
    """Parse ``args`` (``["fit", "-c", "recipe.yaml", ...]``) and do what they say; InputError where they are wrong.

    ``callbacks`` are Lightning callbacks that watch the run beside those of the recipe; nothing of them is saved in its config.
    """
    if not args or args[0] not in COMMANDS or {"-h", "--help"} & set(args):
        return CLI(args, Given(), callbacks)
    end_with_parent()
    given = peek(args[0], args)
    if args[0] == "fit":
        callbacks = [*callbacks, RunRecord(args), Termination()]
    with tempfile.TemporaryDirectory() as folder:
        base = base_config(args[0], given)
        if base:
            file = Path(folder) / "checkpoint.yaml"
            file.write_text(yaml.safe_dump(base))
            args = [args[0], "--config", str(file), *args[1:]]
        return CLI(args, given, callbacks)


def main(args: list[str] | None = None, callbacks: Sequence[Any] = ()) -> None:
    """`run` for the shell: an error is one sentence on stderr and exit code 2."""
    args = list(sys.argv[1:] if args is None else args)
    try:
        with ended_by_sigterm() if args[:1] == ["fit"] else nullcontext():
            run(args, callbacks)
    except InputError as error:
        wait_for_parent()
        _fail(str(error))
    except MisconfigurationException as error:
        _fail(" ".join(str(error).split()))
    except torch.cuda.OutOfMemoryError as error:
        _fail(
            f"the GPU has not enough memory; lower data.batch_size or data.size ({str(error).splitlines()[0]})"
        )
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
            raise
        _fail(
            f"cannot write: {error.strerror}{f' ({error.filename})' if error.filename else ''}; files written before are intact."
        )


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
