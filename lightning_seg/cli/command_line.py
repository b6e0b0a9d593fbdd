"""The command line on LightningCLI: ``fit | validate | test``, and `run`, the one way into every
run of the project.

What this adds to LightningCLI: a checkpoint alone rebuilds network and data (``test --ckpt_path
X``), ``best`` and ``last`` name files of the run, options that contradict a checkpoint are refused,
errors are one sentence.
"""

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_seg.callbacks.corrupted_scores import score_corrupted
from lightning_seg.callbacks.run_record import RunRecord
from lightning_seg.callbacks.scores import ScoreReport
from lightning_seg.callbacks.seen_images import SeenImages
from lightning_seg.callbacks.tensorboard import Dashboard
from lightning_seg.callbacks.training_log import TrainingLog
from lightning_seg.callbacks.volume_scores import VolumeScores
from lightning_seg.cli.arguments import (
    CLASS_FAILS,
    LINKED,
    Given,
    Parser,
    base_config,
    check_begun,
    check_placed,
    failed_class,
    peek,
    with_recipe_paths,
)
from lightning_seg.cli.checks import check_best, check_length, check_sealed, check_settings
from lightning_seg.cli.scoring_options import (
    add_corruption_options,
    add_scoring_options,
    corruptions_of,
    ensemble_of,
    scoring_of,
)
from lightning_seg.data import SegmentationDataModule, trust_source
from lightning_seg.data.datamodule import check_crop_size
from lightning_seg.errors import InputError, machine_refusal, printable
from lightning_seg.files import real_path, whole
from lightning_seg.files.documents import read_yaml
from lightning_seg.files.trust import check_code
from lightning_seg.inference.scored_inference import score_with
from lightning_seg.options import home_expanded, spell_options
from lightning_seg.runs import Run, find_checkpoint
from lightning_seg.runs.checkpoints import check_data_fit, check_trust, read_checkpoint
from lightning_seg.runs.network_budget import NetworkBudget
from lightning_seg.runs.run import new_run
from lightning_seg.runs.trained_on import TrainedOn
from lightning_seg.training.checkpointing import BestCheckpoint, LastCheckpoint, Lineage
from lightning_seg.training.determinism import automatic_determinism
from lightning_seg.training.devices import cluster_environment, device_options, spare_devices
from lightning_seg.training.module import NETWORK, OPTIMIZATION, SegmentationModule
from lightning_seg.training.nodes import Found, SameImages, common_settings, common_start, this_node
from lightning_seg.training.precision import automatic_precision
from lightning_seg.training.processes import end_with_parent, may_tell
from lightning_seg.training.run_place import RunPlace, run_of
from lightning_seg.training.termination import Termination, ended_by_sigterm
from lightning_seg.training.trainer import RunTrainer

_EARLY = "ended by SIGTERM before the training began; nothing was saved"

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
    "overridden `on_after_batch_transfer` in both",  # the module's is for plain loaders alone
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


class _ScalarsLeftOut(TensorBoardLogger):
    """TensorBoard with the texts of a validation, and without a point at step 0 of the curves."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Keep nothing."""


class CLI(LightningCLI):
    """LightningCLI for this project's module and data."""

    def __init__(
        self,
        args: list[str],
        given: Given,
        callbacks: Sequence[Any] = (),
        begin: Callable[[int, Mapping[str, Found]], None] | None = None,
    ) -> None:
        self.given = given
        self.begin = begin
        self._asked = args[0] if args else ""
        for recipe in given.configs:
            check_code(read_yaml(recipe), recipe, given.trust_code)
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
                    SameImages(),
                    *callbacks,
                ],
                "devices": 1,  # batch norm and score tables of several are no choice to make unasked
                "enable_model_summary": False,  # `lightning-seg profile` counts what matters
                "enable_progress_bar": sys.stdout.isatty(),  # a file gets one line an epoch instead
                "log_every_n_steps": 10,
            },
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that is asked for, as each parser takes a while to make; else this project's."""
        known = LightningCLI.subcommands()
        wanted = [self._asked] if self._asked in COMMANDS else COMMANDS
        return {name: known[name] for name in wanted}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--name",
            type=str | None,
            default=None,
            help="name of the run (default: that of the recipe)",
        )
        parser.add_argument("--runs", type=str, default="runs", help="folder of all runs")
        trust = "run the code outside of lightning_seg that a checkpoint, recipe or run names"
        parser.add_argument("--trust_code", action="store_true", help=trust)
        kinds = (
            "independent: a sigmoid for each class; exclusive: a softmax of them and the background"
        )
        add = parser.add_argument
        add(
            "--classes", type=Literal["independent", "exclusive"], default="independent", help=kinds
        )
        parser.link_arguments("classes", "model.exclusive", compute_fn=_is_exclusive)
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
            add_scoring_options(parser)
        if subcommand == "test":
            add_corruption_options(parser)
        return parser

    def _parse_ckpt_path(self) -> None:
        """LightningCLI would silently put the checkpoint's settings over those of the command
        line."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        for key, value in list(config.items()):
            config[key] = home_expanded(value)
        if config.data.crop is not None:
            check_crop_size(config.data.size, config.data.crop)
            # the run's records say no size that is not used
            config.data.size = None
        torch.set_float32_matmul_precision("high")
        check_best(config.checkpoint)
        if self.subcommand == "fit":
            check_length(config.trainer)
        self.choose_determinism(config)
        if self.subcommand == "fit":
            self.choose_precision(config.trainer)
        if ":" in config.data.dataset and self.content is None:
            # a recipe that names it was let pass, or it was typed
            trust_source(config.data.dataset)
        if self.content is None:
            return
        check_trust(self.content, self.given.checkpoint, self.given.trust_code)
        if ":" in config.data.dataset:
            trust_source(config.data.dataset)
        config.ckpt_path = str(self.given.checkpoint)
        fixed = (*NETWORK, *OPTIMIZATION) if self.subcommand == "fit" else NETWORK
        keys = [key for key in fixed if key not in LINKED]
        check_settings(config.model, self.content, keys, self.given.checkpoint)

    def choose_determinism(self, config: Any) -> None:
        """Put what nobody named into the configuration, so that the run's records show it."""
        trainer = config.trainer
        if trainer.deterministic is not None:
            return
        fixed = config.data.size is not None or config.data.crop is not None
        found = automatic_determinism(self.subcommand, trainer.accelerator, fixed)
        trainer.deterministic = found.deterministic
        if trainer.benchmark is None:
            trainer.benchmark = found.benchmark

    def choose_precision(self, trainer: Any) -> None:
        """Put the precision that nobody named into the configuration, so that the run's records
        show it."""
        if trainer.precision is not None or trainer.plugins:
            return
        if self.content is None:
            trainer.precision, reason = automatic_precision(trainer.accelerator)
        else:  # that of a run which does not say it is Lightning's default
            trainer.precision = self.content.get("lightning_seg", {}).get("precision", "32-true")
            reason = "as this run began"
        self.precision_note = f" ({reason}; --trainer.precision names another)"

    def instantiate_classes(self) -> None:
        given = self.content
        budget: Any = nullcontext()
        if given is not None:
            budget = NetworkBudget(given["state_dict"], self.given.checkpoint)
        try:
            with budget:
                super().instantiate_classes()
        except (
            ValueError
        ) as error:  # of jsonargparse, where the class of a logger or callback fails
            if isinstance(error, InputError) or CLASS_FAILS not in str(error):
                raise
            raise InputError(failed_class("", str(error))) from error
        config, data = self.config[self.subcommand], self.datamodule
        if self.subcommand in SCORING:
            scoring = scoring_of(config)
            for path in scoring.ensemble:
                check_data_fit(data, read_checkpoint(find_checkpoint(path)), path)
            split = "test" if self.subcommand == "test" else "val"
            checkpoint = Path(config.ckpt_path)
            score_with(self.model, checkpoint, scoring, self.given.trust_code, data, split)
        if self.content is not None:
            check_data_fit(data, self.content, self.given.checkpoint)

    def _trainings(self) -> dict[str, TrainedOn]:
        """The images on which the checkpoint, and each further one of an ensemble, was trained on."""
        found = {str(self.given.checkpoint): TrainedOn.read(self.content or {})}
        for path in ensemble_of(self.config[self.subcommand]):
            found[path] = TrainedOn.read(read_checkpoint(find_checkpoint(path)))
        return found

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        run, logger = self._run(), self._get(self.config_init, "trainer.logger")
        self.trainer_defaults["callbacks"].append(RunPlace(run))
        if self.subcommand == "fit":
            self.trainer_defaults["callbacks"].append(TrainingLog(self.precision_note))
        if self.subcommand in SCORING:
            self.trainer_defaults["callbacks"].append(SeenImages(self._trainings()))
        if logger in (None, True):
            # a validation is of no step of the training
            board = _ScalarsLeftOut if self.subcommand == "validate" else TensorBoardLogger
            kwargs["logger"] = board(run.folder, name="", version="", default_hp_metric=False)
        if logger is not False:
            self.trainer_defaults["callbacks"].append(LearningRateMonitor())
        if self._get(self.config_init, "trainer.default_root_dir") is None:
            kwargs["default_root_dir"] = str(run.folder)
        kwargs |= device_options(self._get(self.config_init, "trainer"))
        try:
            trainer: Any = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError) as error:
            raise InputError(
                f"these trainer options do not work: {' '.join(str(error).split())}"
            ) from error
        except RuntimeError as error:
            if "stateful callback" not in str(error):
                raise
            raise InputError(
                "trainer.callbacks holds two alike, or a ModelCheckpoint like the two of each run "
                "(the best epoch by checkpoint.monitor, and the last one); leave it out, or have it "
                "keep others, as by every_n_epochs."
            ) from error
        for callback in trainer.callbacks:
            check_sealed(
                f"the monitor of {type(callback).__name__}", getattr(callback, "monitor", None)
            )
        return trainer

    def _run(self) -> Run:
        """The run of the checkpoint, unless another place is named, or a new one."""
        config, given = self.config[self.subcommand], self.given
        root = real_path(config.runs)
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

    def before_test(self) -> None:
        self._require_batches("test")
        self.corruptions = corruptions_of(self.config["test"])
        # 1 is one batch
        whole_split = repr(self.trainer.limit_test_batches) == "1.0"
        if self.corruptions and not whole_split:
            raise InputError(
                "--corrupt scores a whole split; leave out trainer.limit_test_batches."
            )
        self._begin_on_all_nodes()
        self._say_ending()

    def after_test(self) -> None:
        if self.corruptions:
            checkpoint = Path(self.config["test"].ckpt_path)
            score_corrupted(self.trainer, self.model, checkpoint, self.corruptions)

    def before_validate(self) -> None:
        self._require_batches("val")
        self._begin_on_all_nodes()
        self._say_ending()

    def _require_batches(self, split: str) -> None:
        """InputError where no batch would be scored, so that nothing would be said at all."""
        name = f"limit_{split}_batches"
        if getattr(self.trainer, name) == 0:
            raise InputError(f"trainer.{name} is 0, so nothing would be scored; leave it out.")

    def _say_ending(self) -> None:
        """Scores of a training that has not run its course say so."""
        run = Run.holding(self.given.checkpoint) if self.given.checkpoint else None
        unknown_or_done = run is None or run.ending.status in ("complete", "unknown")
        if run is not None and not unknown_or_done and self.trainer.is_global_zero:
            print(f"note: the training of {run.name} is not complete: {run.ending.text}.")

    def before_fit(self) -> None:
        if self.trainer.is_global_zero:
            note = spare_devices(self.trainer.num_devices)
            print(note, end="\n" if note else "")
        self.model.execution.check_machine(self.trainer.strategy.root_device)
        if self.content is None:
            self.model.load_encoder_weights()  # before the data are read: a missing file is found at once
        self._begin_on_all_nodes()

    def _begin_on_all_nodes(self) -> None:
        """InputError on all nodes where one of them lacks what the others have, or has another."""
        if self.begin is None:
            return
        found = {"options": common_settings(self.config[self.subcommand])}
        if self.given.checkpoint is not None:
            found["checkpoint"] = Found.of_file(self.given.checkpoint)
        if self.model.origin:
            origin = self.model.origin
            found["encoder weights"] = Found(origin.get("file", ""), origin.get("sha256", ""))
        self.begin(self.trainer.num_nodes, found)


def _seed(value: bool | int) -> int:
    if isinstance(value, bool) or not 0 <= value < 2**32:
        raise InputError(
            f"seed_everything is {str(value)[:30]}; give a whole number from 0 to 4294967295, "
            "such as 42."
        )
    return value


def _is_exclusive(classes: str) -> bool:
    return classes == "exclusive"


class _ParsersAlone(CLI):
    """The parsers of the commands; nothing is parsed."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        raise _ParsersMadeError


class _ParsersMadeError(Exception):
    """Ends `_ParsersAlone` before it parses anything."""


def run_parser(command: str) -> Any:
    """The parser of ``fit``, ``validate`` or ``test``, for its help and its keys."""
    cli = _ParsersAlone.__new__(_ParsersAlone)
    with suppress(_ParsersMadeError):
        cli.__init__([command], Given())  # type: ignore[misc]
    return cli._subcommand_parsers[command]


def run(args: list[str], callbacks: Sequence[Any] = ()) -> CLI:
    """Parse ``args`` (``["fit", "-c", "recipe.yaml", ...]``) and do what they say; InputError where
    they are wrong.

    ``callbacks`` are Lightning callbacks that watch the run beside those of the recipe; nothing of
    them is saved in its config.
    """
    args = spell_options(args)
    if not args or args[0] not in COMMANDS or {"-h", "--help"} & set(args):
        return CLI(args, Given(), callbacks)
    end_with_parent()
    with common_start(this_node(cluster_environment())) as begin:
        return _run(args, callbacks, begin)


def _run(
    args: list[str],
    callbacks: Sequence[Any],
    begin: Callable[[int, Mapping[str, Found]], None],
) -> CLI:
    check_placed(args[0], args[1:])
    given = peek(args[0], args)
    check_begun(args[0], args, given)
    if args[0] == "fit":
        callbacks = [*callbacks, RunRecord(args), Termination()]
    with tempfile.TemporaryDirectory() as folder:
        base = base_config(args[0], given)
        args = with_recipe_paths(args)
        if base:
            file = Path(folder) / "checkpoint.yaml"
            file.write_text(yaml.safe_dump(base))
            args = [args[0], "--config", str(file), *args[1:]]
        return CLI(args, given, callbacks, begin)


def main(
    args: list[str] | None = None,
    callbacks: Sequence[Any] = (),
) -> None:
    """`run` for the shell: an error is one sentence on stderr and exit code 2."""
    args = list(sys.argv[1:] if args is None else args)
    try:
        with ended_by_sigterm(_EARLY) if args[:1] == ["fit"] else nullcontext():
            run(args, callbacks)
    except InputError as error:
        _fail(str(error))
    except MisconfigurationException as error:
        _fail(" ".join(str(error).split()))
    except torch.cuda.OutOfMemoryError as error:
        _fail(
            f"the GPU has not enough memory; lower data.batch_size or data.size ({str(error).splitlines()[0]})"
        )
    except (OSError, RuntimeError, MemoryError) as error:
        sentence = machine_refusal(error)
        if sentence is None:
            raise
        _fail(sentence)


def _fail(message: str) -> NoReturn:
    if may_tell():
        print(f"error: {printable(message)}", file=sys.stderr)
    raise SystemExit(2)
