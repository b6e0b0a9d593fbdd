"""`SegmentationModule`: the one LightningModule that wraps any network."""

import math
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable, scores
from lightning_seg.evaluation.conventions import mean_of_defined
from lightning_seg.evaluation.scoring import Scorer
from lightning_seg.models import Output, TimmEncoder, create
from lightning_seg.models.frame.normalization import Normalization, statistics
from lightning_seg.runs.checkpoints import COURSE, check_trust, read_checkpoint
from lightning_seg.training.checkpointing import course_of
from lightning_seg.training.devices import check_layer_sync
from lightning_seg.training.losses import WeightedLoss
from lightning_seg.training.optimizer import check_optimization, make_schedule
from lightning_seg.training.options import TrainingOptions

# What a checkpoint is the weights of: these cannot change once there are weights.
NETWORK = (
    "architecture",
    "encoder",
    "encoder_options",
    "options",
    "classes",
    "in_channels",
    "normalization",
)
# What the optimiser's state in a checkpoint belongs to: a resumed run goes on with these.
OPTIMIZATION = (
    *(
        "optimizer",
        "lr",
        "weight_decay",
        "optimizer_options",
        "schedule",
        "warmup",
        "schedule_options",
    ),
    *("encoder_lr", "layer_decay", "no_decay", "freeze", "ema"),
)


class SegmentationModule(L.LightningModule):
    """A network with its loss, scores, optimiser and schedule. Hyper-parameters are primitives, so a checkpoint rebuilds it.

    Args:
        architecture: name of the network (``lightning-seg models`` lists them), or ``package.module:Class``.
        encoder: timm name with tag, or None for the network's own one from scratch.
        pretrained: start `fit` from the encoder's ImageNet weights.
        options: further arguments of the network's constructor (``lightning-seg models <name>`` lists them).
        encoder_options: further arguments of the timm encoder.
        classes: names of the mask's channels; set from the data.
        in_channels: channels of the image; set from the data.
        normalization: of images scaled to [0, 1]: ``encoder`` (the mean and std of its pre-training), ``imagenet``,
            ``symmetric`` (to [-1, 1]) or ``unit`` (as they are).
        loss: weighted sum of terms, ``{bce: 0.5, dice: 0.5}``, each a weight or ``{weight: w, option: value}``.
        optimizer: adam, adamw, nadam, rmsprop or sgd, with ``lr``, ``weight_decay`` and ``optimizer_options``.
        schedule: of the learning rate: ``cosine`` to zero by step; ``constant``; ``multistep`` (schedule_options: milestones
            in epochs, gamma); ``plateau`` of val/loss (schedule_options: factor, patience, min_lr).
        warmup: share of all steps over which the learning rate of ``cosine`` and ``constant`` first rises linearly.
        encoder_lr: factor on the learning rate of the encoder, such as 0.1.
        layer_decay: factor on it for each layer of the timm encoder, as timm counts them, from the decoder to the stem: 0.75.
        no_decay: no weight decay for norms and biases.
        freeze: parts of the network that do not learn: ``[encoder]`` for good, ``{encoder: 3}`` for 3 epochs. Their batch norm
            keeps its statistics, their dropout and drop path rest.
        ema: decay of the moving average of the weights, such as 0.999, that is validated and saved in their place; it rises
            as (1 + n) / (10 + n) in the first steps n.
        compile: let torch.compile translate the network in `fit`: ``true``; ``dynamic``, for images of many sizes; or a mode:
            ``reduce-overhead``, ``max-autotune``. The first step takes a minute and more, which is printed.
        activation_checkpointing: of levels and stages keep the input only and compute them again in the backward pass: less
            memory, about a third more time, the same numbers.
    """

    mean: Tensor
    std: Tensor

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
        optimizer: str = "adamw",
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
        optimizer_options: dict[str, Any] | None = None,
        schedule: str = "cosine",
        warmup: float = 0.05,
        schedule_options: dict[str, Any] | None = None,
        encoder_lr: float | None = None,
        layer_decay: float | None = None,
        no_decay: bool = False,
        freeze: list[str] | dict[str, int] | None = None,
        ema: float | None = None,
        compile: bool | str = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        classes = list(classes)
        self.save_hyperparameters()
        self.classes = classes
        check_optimization(self.hparams)
        for name in ("encoder", "encoder_options", "in_channels", "num_classes"):
            if name in (options or {}):
                raise InputError(
                    f"model.options holds {name!r}, which has a place of its own or follows from the data; move it."
                )
        self.loss: Any = WeightedLoss(loss or {"bce": 0.5, "dice": 0.5})
        self.net = create(
            architecture,
            encoder=encoder,
            in_channels=in_channels,
            num_classes=len(classes),
            encoder_options=encoder_options,
            **(options or {}),
        ).to(memory_format=torch.channels_last)
        self.training_options = TrainingOptions(self.net, self.hparams)
        if pretrained and self._encoder is None:
            raise InputError(
                f"{architecture} is built without a timm encoder, so `pretrained` has no weights; set encoder, or pretrained: false."
            )
        mean, std = statistics(normalization, self._encoder, in_channels)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.scorer = Scorer(classes)
        self.predictor: Callable[[Tensor], Tensor] | None = (
            None  # in place of one pass, where `test` is told so
        )
        self.origin: dict[str, str] = {}  # of the encoder's starting weights: name, file, sha256
        self.table: ScoreTable | None = None  # of the last validation or test epoch
        self.histogram: Tensor | None = (
            None  # (K, 2, bins) its pixels of background and of foreground by probability
        )

    @property
    def _data(self) -> Any:
        return getattr(self.trainer, "datamodule")  # noqa: B009  (an attribute that Lightning does not declare)

    @property
    def _encoder(self) -> TimmEncoder | None:
        return next((m for m in self.net.modules() if isinstance(m, TimmEncoder)), None)

    def configure_callbacks(self) -> list[L.Callback]:
        return self.training_options.callbacks() if self.trainer.state.fn == "fit" else []

    def on_fit_start(self) -> None:
        check_layer_sync(self.trainer.strategy)
        self.load_encoder_weights()  # a resumed run has its origin from the checkpoint, and nothing is loaded
        self.training_options.check_machine(self.device)
        self.training_options.start(self.device)

    def load_encoder_weights(self) -> None:
        """Start from the encoder's ImageNet weights; an InputError where there are none on this machine."""
        if self.hparams["pretrained"] and not self.origin and self._encoder is not None:
            self.origin = self._encoder.load_weights()

    def forward(self, image: Tensor) -> Output:
        """image (B, C, H, W), uint8, or float in [0, 1] -> `Output` with logits (B, K, H, W)."""
        if image.dtype == torch.uint8:
            image = image.to(self.mean.dtype).div_(255)
        image = image.contiguous(memory_format=torch.channels_last)
        output = self.net((image - self.mean) / self.std)
        return output if isinstance(output, Output) else Output(output)

    def _loss(self, output: Output, batch: dict[str, Any], stage: str) -> Tensor:
        mask, counted = batch["mask"], batch["region"] > 0 if "region" in batch else None
        loss = self.loss(output.logits, mask, counted)
        for deep in output.deep:
            loss = loss + self.loss(deep, mask, counted) / len(output.deep)
        if output.penalty is not None:
            loss = loss + output.penalty.float()
            value, name = output.penalty.detach(), f"{stage}/penalty"
            self.log(name, value, on_step=False, on_epoch=True, batch_size=len(mask))
        return loss

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        try:
            output = self(batch["image"])
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise InputError(
                f"a batch of shape {tuple(batch['image'].shape)} leaves batch norm a single value per channel; "
                "raise data.batch_size or data.size."
            ) from error
        loss = self._loss(output, batch, "train")
        self.scorer.train_batch(output.logits, batch, loss)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        self._score(batch, "val")

    def test_step(self, batch: dict[str, Any], batch_index: int) -> None:
        self._score(batch, "test")

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """Probabilities (B, K, H, W), float32."""
        return self.probabilities(batch)

    def probabilities(self, batch: dict[str, Any], output: Output | None = None) -> Tensor:
        """What is scored and what is predicted: (B, K, H, W), float32.

        Args:
            output: of the network for the batch, where the caller has it already.
        """
        if self.predictor is not None:
            return self.predictor(batch["image"])
        return (output or self(batch["image"])).logits.float().sigmoid()

    def _score(self, batch: dict[str, Any], stage: str) -> None:
        fitting = self.trainer.state.fn == "fit"
        with self.training_options.as_tested(self.device) if fitting else nullcontext():
            output = self(batch["image"])
            loss = self._loss(output, batch, stage)
            self.scorer.batch(
                stage, self.probabilities(batch, output), batch, loss, self._data.source
            )

    def on_train_epoch_start(self) -> None:
        # Every epoch draws dropout from numbers of its own, so that a resumed run repeats an uninterrupted one.
        seed = f"{os.environ.get('PL_GLOBAL_SEED', 0)} {self.current_epoch} {self.global_rank}"
        torch.manual_seed(zlib.crc32(seed.encode()))

    def on_train_epoch_end(self) -> None:
        self._log_scores("train")

    def on_validation_epoch_start(self) -> None:
        self.scorer.measure(self.device if self.trainer.state.fn == "validate" else None)

    def on_test_epoch_start(self) -> None:
        self.scorer.measure(self.device)

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        index, counts, inside, loss, histogram = self.scorer.finish(stage)
        if stage == "train" and not math.isfinite(loss):
            raise InputError(
                f"the training loss is {loss} in epoch {self.current_epoch}; lower model.lr, or train with "
                "--trainer.precision 32-true or --trainer.gradient_clip_val 1; the checkpoints before are intact."
            )
        if not math.isfinite(loss) and self.trainer.state.fn != "fit":
            raise InputError(
                f"the {stage} loss is {loss}: the network gives no finite numbers, which no score would show; score with "
                "--trainer.precision 32-true, or another checkpoint."
            )
        if stage != "train":  # where an image may stand several times, as augmented copies
            self.histogram = histogram
            self.table = self.scorer.table(
                index, counts, inside, self._data.ids(stage), self._data.source.groups
            )
            counts = self.table.counts
        self._log_all(
            stage, loss, {name: scores(counts[:, k]) for k, name in enumerate(self.classes)}
        )

    def _log_all(self, stage: str, loss: float, values: dict[str, dict[str, float]]) -> None:
        """``val/dice``, the mean over the classes for which it is defined, and of several classes ``val/dice_<class>``."""
        mean = {
            key: mean_of_defined(v[key] for v in values.values()) for key in values[self.classes[0]]
        }
        log = {f"{stage}/loss": loss} | {f"{stage}/{key}": value for key, value in mean.items()}
        if len(self.classes) > 1:
            log |= {
                f"{stage}/{key}_{name}": value
                for name, v in values.items()
                for key, value in v.items()
            }
        for key, value in log.items():
            self.log(
                key, float(value), prog_bar=key in ("train/loss", "val/dice", "val/dice_image")
            )

    def configure_optimizers(self) -> Any:
        optimizer = self.training_options.optimizer(clipped=bool(self.trainer.gradient_clip_val))
        return {
            "optimizer": optimizer,
            "lr_scheduler": make_schedule(optimizer, self.hparams, self.trainer),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["lightning_seg"] = {
            "encoder_weights": self.origin,
            "precision": str(self.trainer.precision),
            "protocol": self._data.protocol_name,
            "protocol_digest": self._data.protocol_digest,
            "trained_on": list(self._data.ids("train")),
        }
        checkpoint[COURSE] = course_of(self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.origin = checkpoint.get("lightning_seg", {}).get("encoder_weights", {})

    @classmethod
    def load(cls, path: str | Path, trust_code: bool = False) -> "SegmentationModule":
        """The trained module of a checkpoint, in evaluation mode, on the CPU.

        Args:
            trust_code: let an architecture ``package.module:Class`` import its module.
        """
        checkpoint = read_checkpoint(path)
        check_trust(checkpoint, path, trust_code)
        hparams = {k: v for k, v in checkpoint["hyper_parameters"].items() if not k.startswith("_")}
        module = cls(**hparams)
        module.load_state_dict(checkpoint["state_dict"])
        module.on_load_checkpoint(checkpoint)
        return module.eval()
