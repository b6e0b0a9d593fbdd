"""``python -m experiments check``: what would stop a training, before it waits in a queue.

    python -m experiments check -c experiments/unet_a.yaml --trainer.devices 8 [--any.key value]

It takes what ``lightning-seg fit`` takes. Keys and values, the network, the data and their splits,
the encoder's weights, and how batches and images are shared by the devices are looked at.
"""

import sys

from hpo.recipe import DryRun, try_fit
from hpo.weights import starting_encoder
from lightning_seg.errors import InputError
from lightning_seg.models.frame.weights import find_weights
from lightning_seg.tables import count_text
from lightning_seg.training.devices import count_devices

_SPLITS = ("train", "val", "test")


def main(args: list[str]) -> None:
    """Print what the run would be; InputError for the first thing that would stop it."""
    if not args or {"-h", "--help"} & set(args):
        print(__doc__)
        return
    dry = try_fit(args)
    encoder = "" if dry.content else starting_encoder(dry.values)
    if encoder:
        find_weights(encoder)
    _ = dry.datamodule.source  # opened, and its files looked for under every id of the protocol
    values = dry.values
    devices = count_devices(values["trainer.accelerator"], values["trainer.devices"])
    world = devices * values["trainer.num_nodes"]
    images = {split: len(dry.datamodule.ids(split)) for split in _SPLITS}
    check_shares(values["data.batch_size"], images, world)
    warn_of_single_images(dry, world)
    shares = ", ".join(f"{number} {split}" for split, number in images.items())
    batch = f"batches of {values['data.batch_size']}"
    print(
        f"ok: {values['model.architecture']}, {batch} on {count_text(world, 'device')}, images: {shares}"
    )


def check_shares(batch_size: int, images: dict[str, int], world: int) -> None:
    """InputError where so many devices cannot share batches, or images that are scored."""
    if batch_size % world:
        below = [n for n in range(1, world) if batch_size % n == 0]
        raise InputError(
            f"data.batch_size {batch_size} cannot be shared by {world} devices; give a multiple "
            f"of {world}, or {below[-1]} devices."
        )
    for split in ("val", "test"):
        if 0 < images[split] < world:
            raise InputError(
                f"the {images[split]} {split} images cannot be shared by {world} devices; "
                f"give {count_text(images[split], 'device')} or fewer."
            )


def warn_of_single_images(dry: DryRun, world: int) -> None:
    """A word on batch norm over one image, which trains otherwise than the recipe does."""
    values = dry.values
    alone = world > 1 and values["data.batch_size"] == world
    if alone and not values["trainer.sync_batchnorm"]:
        print(
            "warning: each device has one image of a batch, over which batch norm computes; "
            "add --trainer.sync_batchnorm true",
            file=sys.stderr,
        )
