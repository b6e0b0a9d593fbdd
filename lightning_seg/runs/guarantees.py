"""The guarantee that a checkpoint holds: whether it may be made, and where it may be used."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.splits import RESERVED
from lightning_seg.errors import InputError
from lightning_seg.evaluation.conformal import Guarantee
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.runs.trained_on import TrainedOn
from lightning_seg.tables import count_text


def guarantee_of(content: Mapping[str, Any]) -> Guarantee | None:
    """The guarantee in the content of a checkpoint."""
    kept = content.get("lightning_seg", {}).get("guarantee")
    return None if kept is None else Guarantee.from_json(kept)


def usable_guarantee(
    checkpoints: Sequence[Path], otherwise: Sequence[str] = ()
) -> tuple[Guarantee | None, str]:
    """The guarantee of one network, and why there is none where a checkpoint holds one.

    Args:
        otherwise: how its probabilities are made otherwise than those it was fitted to, in words.
    """
    found = [guarantee_of(read_checkpoint(file, weights=False)) for file in checkpoints]
    if not any(found):
        return None, ""
    reasons = [*(["of an ensemble"] if len(checkpoints) > 1 else []), *otherwise]
    if reasons:
        return None, (
            f"no guaranteed contours: the guarantee of {checkpoints[0].name} is of its network "
            f"alone as it was trained, not {', '.join(reasons)}"
        )
    return found[0], ""


def probabilities_otherwise(tta: str = "none", precision: str = "32") -> list[str]:
    """How options make other probabilities than a guarantee was fitted to, in words."""
    return [
        *([f"with test-time augmentation {tta}"] if tta != "none" else []),
        *([f"in precision {precision}"] if precision != "32" else []),
    ]


def check_reserved(content: Mapping[str, Any], file: Path, data: SegmentationDataModule) -> None:
    """InputError where the training left no images for a guarantee, or has used them.

    Args:
        content: of the checkpoint ``file``.
        data: as the checkpoint says.
    """
    protocol = data.protocol_name
    if not data.ids(RESERVED):
        raise InputError(
            f"the training of {file} chose its checkpoint and threshold by all validation images "
            f"of protocol {protocol!r}, so that none are left for a guarantee; train under one "
            f"that reserves some, such as --data.protocol reserve-42-of-{protocol}."
        )
    images = data.fingerprint(RESERVED)
    trained = TrainedOn.read(content)
    used = {id for split in ("train", "val") for id in trained.seen(images, split)}
    used |= trained.names & images.contents.keys()
    if used or trained.images is None:
        what = f"used {count_text(len(used), 'reserved image')}, such as {min(used)!r}" * bool(used)
        raise InputError(
            f"the training of {file} {what or 'holds no digests of its images'}, so that they can "
            f"guarantee nothing; train anew under protocol {protocol!r}."
        )
