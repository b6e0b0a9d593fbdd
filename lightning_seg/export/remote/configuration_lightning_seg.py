"""What `config.json` says of the model."""

from typing import Any

from transformers import PretrainedConfig


class LightningSegConfig(PretrainedConfig):
    """A trained network for segmentation.

    Args:
        architecture: name of the network; ``network``: the arguments of its constructor.
        classes: names of the channels of the logits.
        in_channels: channels of the image.
        image_size: height and width to which images were scaled in training; None: they were taken
            as they are.
        image_mean, image_std: of images in [0, 1], per channel; the model itself applies them.
        exclusive: whether the logits are of a softmax, with the background before the classes.
        calibration: ``scale`` and ``shift`` of the logits, found after the training; None: as they
            are.
        loss: terms of the training loss and their weights.
    """

    model_type = "lightning_seg"

    def __init__(
        self,
        architecture: str = "",
        network: dict[str, Any] | None = None,
        classes: tuple[str, ...] | list[str] = ("foreground",),
        in_channels: int = 3,
        image_size: int | None = None,
        image_mean: tuple[float, ...] | list[float] = (0.0, 0.0, 0.0),
        image_std: tuple[float, ...] | list[float] = (1.0, 1.0, 1.0),
        loss: dict[str, Any] | None = None,
        exclusive: bool = False,
        calibration: dict[str, list[float]] | None = None,
        **kwargs: Any,
    ) -> None:
        self.architecture = architecture
        self.network = network or {}
        self.classes = list(classes)
        self.in_channels = in_channels
        self.image_size = image_size
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.exclusive = exclusive
        self.calibration = calibration
        self.loss = loss or {"bce": 0.5, "dice": 0.5}
        kwargs.setdefault("id2label", dict(enumerate(self.classes)))
        kwargs.setdefault("label2id", {name: index for index, name in enumerate(self.classes)})
        super().__init__(**kwargs)
