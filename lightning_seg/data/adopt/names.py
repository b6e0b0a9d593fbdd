"""What the names of files and folders say: their words, and what words usually mean."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path


def _set_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


MASK_WORDS = _set_of(
    "mask masks label labels lbl seg segs segm segmentation segmentations segmented gt gts truth "
    "groundtruth ground anno annot annos annotation annotations ann manual labelcol delineation "
    "delineations target targets groundtruths"
)
IMAGE_WORDS = _set_of(
    "image images img imgs input inputs original originals photo photos picture pictures raw cxr "
    "ct mr mri scan scans volume volumes vol frame frames tissue"
)
# drawings about a picture, which are neither it nor its mask
OTHER_WORDS = _set_of(
    "bbox bboxes box boxes overlay overlays preview previews thumbnail thumbnails thumb heatmap "
    "heatmaps vis visualization visualisation superpixel superpixels skeleton skeletons distance "
    "contour contours"
)
NEGATIVE_WORDS = _set_of("negative negatives neg normal healthy nopolyp nolesion")
SIDE_WORDS = _set_of("left right l r od os upper lower")
PATIENT_WORDS = _set_of(
    "patient patients pat case subject subj sub person volunteer video vid seq sequence clip study "
    "exam"
)
# beside an id in the name of a table's column
UNIT_WORDS = _set_of("lesion slide scan series eye")
_SPLIT_WORDS = {
    "train": ("train", "training", "tr", "trn", "trainset", "traindata"),
    "val": ("val", "valid", "validation", "dev", "validating", "va"),
    "test": ("test", "testing", "ts", "tst", "testset", "testdata"),
}
SPLIT_OF = {word: split for split, words in _SPLIT_WORDS.items() for word in words}
_RANDOM = re.compile(r"[0-9a-f-]{16,}|[0-9a-z]{20,}", re.IGNORECASE)
_FREQUENT = 0.1  # share of the names from which a word is no part of what tells them apart


def file_stem(path: Path) -> str:
    """The name without its suffix, ``.nii.gz`` too, in Unicode's composed form."""
    name = unicodedata.normalize("NFC", path.name)
    name = name.removesuffix(".gz") if name.lower().endswith((".nii.gz", ".ppm.gz")) else name
    return Path(name).stem


def words_of(text: str) -> tuple[str, ...]:
    """``leftMask_01`` as left, mask, 01: runs of letters or of digits, in lower case."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return tuple(word.lower() for word in re.findall(r"[^\W\d_]+|\d+", apart))


def folder_words(folder: Path, root: Path) -> tuple[str, ...]:
    """The words of all folders from ``root`` down to ``folder``."""
    inner = folder.relative_to(root).parts
    return tuple(word for part in inner for word in words_of(part))


def general_name(text: str) -> str:
    """The name with its numbers as ``#`` and random digits as ``*``."""
    if _RANDOM.fullmatch(text) and any(map(str.isdigit, text)):
        return "*"
    return re.sub(r"\d+", "#", text)


def frequent_words(stems: Sequence[str]) -> frozenset[str]:
    """The words of letters that many of the names hold."""
    counts: dict[str, int] = {}
    for stem in stems:
        if general_name(stem) == "*":
            continue
        for word in {*words_of(stem)}:
            counts[word] = counts.get(word, 0) + 1
    least = max(1, _FREQUENT * len(stems))
    return frozenset(word for word, n in counts.items() if n >= least and not word.isdigit())


def name_pattern(stem: str, frequent: frozenset[str]) -> str:
    """What a name has in common with others: ``benign (12)_mask`` as ``benign # mask``."""
    if general_name(stem) == "*":
        return "*"
    marks = [word if word in frequent else "#" for word in words_of(stem)]
    return " ".join(mark for i, mark in enumerate(marks) if mark != "#" or marks[i - 1] != "#")


def without_words(words: Iterable[str], left_out: Iterable[str]) -> tuple[str, ...]:
    """The words but for those of ``left_out``, in order."""
    gone = {*left_out}
    return tuple(word for word in words if word not in gone)


def split_named(words: Iterable[str]) -> str:
    """train, val or test, where the words name one; of several the last, '' for none."""
    found = [SPLIT_OF[word] for word in words if word in SPLIT_OF]
    return found[-1] if found else ""


def plain_identifier(text: str, otherwise: str = "x") -> str:
    """A text as a name of classes and columns: letters, digits and ``_``."""
    return "_".join(re.findall(r"\w+", text.lower())).strip("_") or otherwise
