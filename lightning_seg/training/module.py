"""`SegmentationModule`: the one LightningModule that wraps any network."""

import math
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lightning_seg.data.crops import windows_batch
from lightning_seg.data.sliding import Band, Corner, sliding_bands
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.store.windows import Picture
from lightning_seg.errors import InputError
from lightning_seg.evaluation import scores
from lightning_seg.evaluation.conventions import mean_of_defined
from lightning_seg.evaluation.curves import BestThreshold, best_threshold
from lightning_seg.evaluation.scoring import Refine, ScoredEpoch, Scorer, Scoring
from lightning_seg.models import Output, encoder_parameters
from lightning_seg.models.frame.normalization import (
    ImageNetwork,
    NetworkForm,
    Normalization,
    check_statistics,
)
from lightning_seg.runs.checkpoints import COURSE, check_trust, read_checkpoint
from lightning_seg.runs.network_budget import NetworkBudget
from lightning_seg.runs.scored_weights import weights_digest
from lightning_seg.runs.trained_on import TrainedOn, changes_of, steps_of, training_facts
from lightning_seg.training.averaging import WeightEMA
from lightning_seg.training.checkpointing import course_of
from lightning_seg.training.devices import check_layer_sync
from lightning_seg.training.execution import Execution
from lightning_seg.training.freezing import Freezing, freeze_for_good
from lightning_seg.training.losses import WeightedLoss
from lightning_seg.training.optimizer import Optimization, make_optimizer
from lightning_seg.training.plain_loaders import PlainLoaders, check_batch
from lightning_seg.training.precision import CompileCost
from lightning_seg.training.resuming import PlateauSteps, WithinEpoch
from lightning_seg.training.running_statistics import RunningStatistics
from lightning_seg.training.schedule import make_schedule

# What a checkpoint is the weights of: these cannot change once there are weights.
NETWORK = tuple(field.name for field in fields(NetworkForm))
# What the optimiser's state in a checkpoint belongs to: a resumed run goes on with these.
OPTIMIZATION = tuple(field.name for field in fields(Optimization))
_SHOWN = ("train/loss", "val/dice", "val/dice_image")  # beside the progress bar


class SegmentationModule(ImageNetwork, L.LightningModule):
    """A network with its loss, scores, optimiser and schedule.

    Hyper-parameters are primitives, so a checkpoint rebuilds it.

    Args:
        architecture: name of the network (``lightning-seg models`` lists them), or
            ``package.module:Class``.
        encoder: timm name with tag, or None for the network's own one from scratch.
        pretrained: start `fit` from the encoder's ImageNet weights.
        options: further arguments of the network's constructor (``lightning-seg models <name>``
            lists them).
        encoder_options: further arguments of the timm encoder.
        classes: names of the mask's channels; set from the data.
        in_channels: channels of the image; set from the data.
        normalization: of images scaled to [0, 1]: ``encoder`` (the mean and std of its
            pre-training), ``imagenet``, ``symmetric`` (to [-1, 1]) or ``unit`` (as they are).
        loss: weighted sum of terms, ``{bce: 0.5, dice: 0.5}``, each a weight or
            ``{weight: w, option: value}``, such as ``bce: {weight: 0.5, pos_weight: 5}``; of
            exclusive classes the default is ``{cross_entropy: 0.5, dice: 0.5}``.
        exclusive: whether each pixel is of one class at most: a softmax over the background and
            the classes in place of a sigmoid each. A recipe says it by ``classes: exclusive``.
        calibration: of a trained network's logits; see ``lightning-seg calibrate``.
        compile: let torch.compile translate the network in `fit`: ``true``; ``dynamic``, for
            images of many sizes; or a mode: ``reduce-overhead``, ``max-autotune``. The first step
            takes a minute and more, which is printed.
        activation_checkpointing: levels and stages keep the input only and compute again in the
            backward pass: less memory, about a third more time, the same numbers.
        optimization: see `Optimization`.

    Attributes:
        origin: the encoder's starting weights: name, file, sha256.
        scored: what the last validation or test epoch found.
    """

    def __init__(
        self,
        architecture: str = "unet",
        encoder: str | None = None,
        pretrained: bool = False,
        options: dict[str, Any] | None = None,
        encoder_options: dict[str, Any] | None = None,
        classes: Sequence[str] = ("foreground",),
        in_channels: int = 3,
        normalization: Normalization = "encoder",
        loss: dict[str, Any] | None = None,
        compile: bool | str = False,
        activation_checkpointing: bool = False,
        exclusive: bool = False,
        calibration: dict[str, list[float]] | None = None,
        **optimization: Any,
    ) -> None:
        settings = Optimization(**optimization)
        execution = Execution(compile, activation_checkpointing)
        terms = loss or {"cross_entropy" if exclusive else "bce": 0.5, "dice": 0.5}
        criterion = WeightedLoss(terms, classes, exclusive)
        super().__init__(
            NetworkForm(
                architecture,
                encoder,
                encoder_options,
                options,
                classes,
                in_channels,
                normalization,
                exclusive,
                calibration,
            )
        )
        self.save_hyperparameters()
        self.save_hyperparameters(asdict(settings))
        if pretrained and self.encoder is None:
            raise InputError(
                f"{architecture} is built without a timm encoder, so `pretrained` has no weights; "
                "set encoder, or pretrained: false."
            )
        execution.check_network(self.net)
        self.optimization, self.execution = settings, execution
        self.loss: Any = criterion
        self.frozen = freeze_for_good(self.net, settings.freeze)
        layered = settings.by_layer
        self.distances = encoder_parameters(self.net, layered) if settings.by_part else {}
        self.scorer = Scorer(self.classes, exclusive=exclusive)
        self.origin: dict[str, str] = {}
        # of the last validation in `fit`
        self.threshold: BestThreshold | None = None
        self.trained_on: TrainedOn | None = None  # of the checkpoint that was loaded
        self.weights = ""  # their digest in that checkpoint
        self.scored: ScoredEpoch | None = None
        self._predictor: Callable[[Tensor], Tensor] | None = None
        # of DataLoaders without a data module
        self._batch_checked, self._images_seen = False, 0

    def score_by(
        self,
        scoring: Scoring,
        predictor: Callable[[Tensor], Tensor] | None = None,
        refine: Refine | None = None,
    ) -> None:
        """Let `test` and `validate` score so.

        Args:
            predictor: gives the probabilities of images, in place of one pass of this network.
            refine: see `Scorer`.
        """
        self.scorer = Scorer(self.classes, scoring, refine, self.form.exclusive)
        self._predictor = predictor

    @property
    def _data(self) -> Any:
        found = getattr(self.trainer, "datamodule")  # noqa: B009  (Lightning does not declare it)
        return PlainLoaders(self.trainer, self.form.in_channels) if found is None else found

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """A batch of anybody's DataLoader is checked, the first time, and its images are numbered;
        see `training.plain_loaders`."""
        if not isinstance(self._data, PlainLoaders):
            return batch
        if not self._batch_checked:
            if self.trainer.world_size > 1:
                raise InputError("DataLoaders without a data module take one device; give one.")
            check_batch(batch, len(self.classes), self.form.in_channels)
            self._batch_checked = True
        count = len(batch["image"])
        places = torch.arange(self._images_seen, self._images_seen + count)
        self._images_seen += count
        names = list(map(str, places.tolist()))
        return {**batch, "index": places.to(batch["image"].device), "id": names}

    # Training

    def configure_callbacks(self) -> list[L.Callback]:
        if self.trainer.state.fn != "fit":
            return []
        callbacks: list[L.Callback] = [RunningStatistics()]
        if self.frozen:
            callbacks.append(Freezing(self.frozen))
        if self.optimization.ema is not None:
            callbacks.append(WeightEMA(self.optimization.ema))
        if self.execution.compile:
            callbacks.append(CompileCost())
        if self.optimization.schedule == "plateau":
            callbacks.append(PlateauSteps())
        return [*callbacks, WithinEpoch()]

    def configure_optimizers(self) -> Any:
        clipped = bool(self.trainer.gradient_clip_val)
        optimizer = make_optimizer(self.net, self.optimization, self.distances, clipped)
        schedule = make_schedule(optimizer, self.optimization, self.trainer)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_fit_start(self) -> None:
        if self.form.calibration is not None:
            raise InputError(
                "this network was calibrated after its training, so that it is not trained "
                "further; go on with the checkpoint that was calibrated, and leave out "
                "model.calibration."
            )
        check_layer_sync(self.trainer.strategy)
        if not isinstance(self._data, PlainLoaders):
            self._data.require_foreground()
            if self.form.exclusive:
                self._data.require_exclusive()
        # a resumed run has its origin from the checkpoint, and nothing is loaded
        self.load_encoder_weights()
        self.execution.check_machine(self.device)
        self.execution.prepare(self.net, self.device)

    def load_encoder_weights(self) -> None:
        """Start from the encoder's ImageNet weights; InputError where this machine has none."""
        if self.hparams["pretrained"] and not self.origin and self.encoder is not None:
            self.origin = self.encoder.load_weights()

    def on_train_epoch_start(self) -> None:
        self._images_seen = 0
        # Every epoch draws dropout from numbers of its own, so that a resumed run repeats an
        # uninterrupted one.
        seed = f"{os.environ.get('PL_GLOBAL_SEED', 0)} {self.current_epoch} {self.global_rank}"
        torch.manual_seed(zlib.crc32(seed.encode()))

    def training_step(
        self,
        batch: dict[str, Any],
        batch_index: int,
    ) -> Tensor:
        try:
            output = self(batch["image"])
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise InputError(
                f"a batch of shape {tuple(batch['image'].shape)} leaves batch norm a single value "
                "per channel; raise data.batch_size or data.size."
            ) from error
        loss = self._loss(output, batch, "train")
        self.scorer.add_training(self.masks_of(output.logits), batch, loss)
        return loss

    def _loss(
        self,
        output: Output,
        batch: dict[str, Any],
        stage: str,
    ) -> Tensor:
        mask, region = batch["mask"], batch.get("region")
        counted = None if region is None else region > 0
        loss = self.loss.supervised([output.logits, *output.deep], mask, counted)
        if output.penalty is None:
            return loss
        value, name = output.penalty.detach(), f"{stage}/penalty"
        self.log(name, value, on_step=False, on_epoch=True, batch_size=len(mask))
        return loss + output.penalty.float()

    def on_train_epoch_end(self) -> None:
        # no table: an image may stand several times, as augmented copies
        found = self.scorer.finish_counts("train")
        if not math.isfinite(found.loss):
            raise InputError(
                f"the training loss is {found.loss} in epoch {self.current_epoch + 1}; lower model.lr, "
                "or train with --trainer.precision 32-true or --trainer.gradient_clip_val 1; the "
                "checkpoints before are intact."
            )
        self._log_scores("train", found.loss, found.counts)

    # Validation, test and prediction

    def on_validation_epoch_start(self) -> None:
        self._images_seen = 0
        measured = self.trainer.state.fn == "validate"
        self.scorer.begin(self.device if measured else None, self._share_of("val"))

    def on_test_epoch_start(self) -> None:
        self._images_seen = 0
        self.scorer.begin(self.device, self._share_of("test"))

    def _share_of(self, split: str) -> int:
        """How many images of a split this process scores."""
        return len(self._data.ids(split)) // self.trainer.world_size

    def validation_step(
        self,
        batch: dict[str, Any],
        batch_index: int,
    ) -> None:
        self._score(batch, "val")

    def test_step(
        self,
        batch: dict[str, Any],
        batch_index: int,
    ) -> None:
        self._score(batch, "test")

    def predict_step(
        self,
        batch: dict[str, Any],
        batch_index: int,
    ) -> Tensor:
        """Probabilities (B, K, H, W), float32."""
        return self.probabilities(batch["image"])

    def _score(
        self,
        batch: dict[str, Any],
        stage: str,
    ) -> None:
        fitting = self.trainer.state.fn == "fit"
        with self.execution.as_tested(self.device) if fitting else nullcontext():
            if "picture" in batch:
                self._score_pictures(batch, stage)
                return
            output = self(batch["image"])
            loss = self._loss(output, batch, stage)
            probability = self.of_classes(output.logits)
            if self._predictor is not None:
                probability = self._predictor(batch["image"])
            self.scorer.add(stage, probability, batch, loss, self._data.source)

    def _score_pictures(
        self,
        batch: dict[str, Any],
        stage: str,
    ) -> None:
        """Score whole pictures by a sliding window; in `fit` band by band, in little memory."""
        crops, source = self._data.crops, self._data.source
        for place, picture in enumerate(batch["picture"]):
            losses: list[Tensor] = []
            predict = partial(self._window_probabilities, picture, crops.side, stage, losses)
            size = picture.shape, crops.side, crops.overlap, self._data.hparams["batch_size"]
            bands = sliding_bands(*size, predict)
            if self.trainer.state.fn != "fit":
                values = torch.cat([band.values for band in bands], 1)
                bands = iter([Band(0, values)])
            at = slice(place, place + 1)
            names = {"index": batch["index"][at], "id": batch["id"][at]}
            for top, values in bands:
                truth = _as_batch(picture.rows(top, values.shape[1]), self.device)
                loss = torch.stack(losses).mean()
                self.scorer.add(stage, values[None], truth | names, loss, source)
                losses.clear()

    def _window_probabilities(
        self,
        picture: Picture,
        side: int,
        stage: str,
        losses: list[Tensor],
        corners: Sequence[Corner],
    ) -> Tensor:
        """The probabilities of some windows, whose loss is kept."""
        windows = windows_batch(picture, corners, side, self.device)
        output = self(windows["image"])
        losses.append(self._loss(output, windows, stage))
        if self._predictor is not None:
            return self._predictor(windows["image"])
        return self.of_classes(output.logits)

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self._finish("test")

    def _finish(self, stage: str) -> None:
        source = self._data.source
        columns = getattr(source, "columns", None)
        found = self.scorer.finish(stage, self._data.ids(stage), source.groups, columns)
        if not math.isfinite(found.loss) and self.trainer.state.fn != "fit":
            raise InputError(
                f"the {stage} loss is {found.loss}: the network gives no finite numbers, which no "
                "score would show; score with --trainer.precision 32-true, or another checkpoint."
            )
        self.scored = found
        if stage == "val" and self.trainer.state.fn == "fit" and not self.form.exclusive:
            self.threshold = best_threshold(found.histogram)
        self._log_scores(stage, found.loss, found.table.counts)

    def _log_scores(self, stage: str, loss: float, counts: Any) -> None:
        """``val/dice``, the mean over the classes that have one; of several also ``val/dice_<class>``."""
        found = [scores(counts[:, k]) for k in range(len(self.classes))]
        by_class = dict(zip(self.classes, found, strict=True))
        log = {"loss": loss}
        for score in found[0]:
            log[score] = mean_of_defined(values[score] for values in found)
        if len(self.classes) > 1:
            for name, values in by_class.items():
                log |= {f"{score}_{name}": value for score, value in values.items()}
        for key, value in log.items():
            name = f"{stage}/{key}"
            self.log(name, float(value), prog_bar=name in _SHOWN)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        facts = {
            "encoder_weights": self.origin,
            "precision": str(self.trainer.precision),
            "steps": steps_of(self.trainer),
            "channels": self._data.channels,
            "threshold": None if self.threshold is None else asdict(self.threshold),
        }
        if not isinstance(self._data, PlainLoaders):
            facts["protocol"] = self._data.protocol_name
            facts["protocol_digest"] = self._data.protocol_digest
            facts |= training_facts(self._data, self.trained_on)
            facts["changes"] = changes_of(self._data, self.trained_on)
        checkpoint["lightning_seg"] = facts
        checkpoint[COURSE] = course_of(self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_statistics(checkpoint.get("state_dict", {}))
        self.origin = checkpoint.get("lightning_seg", {}).get("encoder_weights", {})
        self.trained_on = TrainedOn.read(checkpoint)
        self.weights = weights_digest(checkpoint)

    @classmethod
    def load(cls, path: str | Path, trust_code: bool = False) -> "SegmentationModule":
        """The trained module of a checkpoint, in evaluation mode, on the CPU.

        For prediction alone `read_network` is enough.

        Args:
            trust_code: let an architecture ``package.module:Class`` import its module.
        """
        checkpoint = read_checkpoint(path)
        check_trust(checkpoint, path, trust_code)
        given = checkpoint["hyper_parameters"]
        with NetworkBudget(checkpoint["state_dict"], path):
            module = cls(**{name: given[name] for name in given if not name.startswith("_")})
        module.load_state_dict(checkpoint["state_dict"])
        module.on_load_checkpoint(checkpoint)
        return module.eval()


def _as_batch(
    sample: Sample,
    device: torch.device,
) -> dict[str, Any]:
    """The masks of a sample, and its region where it has one, as those of a batch."""
    mask = torch.from_numpy(sample.mask).permute(2, 0, 1)[None]
    found = {"mask": mask.to(device)}
    if sample.region is not None:
        found["region"] = torch.from_numpy(sample.region)[None, None].to(device)
    return found
