"""What is kept of a scored run in ``experiments/results/scores/``: its per-image table, and beside
it these facts."""

import json
import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable
from lightning_seg.files import write_whole
from lightning_seg.files.shipped import HOME

RECIPES = Path(__file__).parent
RESULTS = RECIPES / "results"  # of the project, under version control


def results_folder() -> Path:
    """Where results are kept unless another place is named: in a checkout its own, elsewhere
    ``results`` of the working folder."""
    in_checkout = RECIPES.parent == HOME and Path.cwd().is_relative_to(HOME)
    return RESULTS if in_checkout and (HOME / "setup.cfg").is_file() else Path("results")


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """All that is to be known of a scored run besides its table. Unknown: an empty string or
    None."""

    recipe: str
    changes: dict[str, Any] = field(
        default_factory=dict
    )  # dotted key -> value, where the training departs from the recipe
    training: str = ""  # 8 hex digits over everything that decides the training but the seed
    trained_on: str = ""  # data set and protocol, where it was tested elsewhere
    architecture: str
    encoder: str
    options: dict[str, Any] = field(default_factory=dict)
    pretrained: bool
    encoder_weights: dict[str, str]  # name, file, sha256
    dataset: str
    protocol: str
    protocol_digest: str
    leaks: bool = False
    grouped: bool = False
    synthetic: bool = False
    split: str
    images: int
    content: str = ""  # digest of the decoded images and masks of the split
    size: int | str  # "native": as the images are
    scored_at: str
    threshold: float = 0.5
    checkpoint: str = ""
    inference: str = (
        ""  # what came to the network alone: test-time augmentation, an ensemble, post-processing
    )
    looks: (
        int | None
    )  # how often the test split had been scored by then, as the ledger of the runs' folder counted
    seed: int
    epochs: int
    precision: str
    commit: str
    hardware: str
    minutes: float | None
    threads: int | None = None  # of the processor that training used
    load: float | None = None  # of the machine meanwhile: how many processes wanted a core
    ending: str = ""  # how the training ended, where it did not go to its end
    folds: dict[str, list[float]] = field(
        default_factory=dict
    )  # of a cross-validation: class -> Dice of each fold, mean over its images
    doubts: str = ""  # how it was resumed otherwise, and why images are not those of its data set
    roc_auc: dict[str, dict[str, float]] = field(default_factory=dict)  # class -> all, fov
    parameters: int | None = None
    gmacs: float | None = None  # of one image of this size
    latency_ms: float | None = None  # one image, eager float32, median
    latency_on: str = ""

    @property
    def network(self) -> str:
        """The network as `lightning-seg profile` takes it:
        ``unet:encoder="resnet34",skip="dca"``."""
        given = ({"encoder": self.encoder} if self.encoder else {}) | self.options
        text = ",".join(f"{key}={json.dumps(value)}" for key, value in given.items())
        return f"{self.architecture}:{text}" if text else self.architecture

    @property
    def model(self) -> str:
        """The network for people: ``unet x mobilenetv2_100, skip=dca``."""
        name = f"{self.architecture} x {self.encoder}" if self.encoder else self.architecture
        scratch = ["from scratch"] if self.encoder and not self.pretrained else []
        more = [self.inference] if self.inference else []
        return ", ".join(
            [
                name,
                *(f"{key}={words(value)}" for key, value in self.options.items()),
                *scratch,
                *more,
            ]
        )

    @property
    def settings(self) -> str:
        """The recipe, where the training departs from it, and the weights it began with."""
        changes = ", ".join(f"{key}={words(value)}" for key, value in self.changes.items())
        weights = (
            f"; encoder weights {self.encoder_weights['sha256'][:8]}"
            if self.encoder_weights
            else ""
        )
        elsewhere = f"; trained on {self.trained_on}" if self.trained_on else ""
        return f"{self.recipe or 'no recipe'}{f' with {changes}' if changes else ''}{weights}{elsewhere}"

    @property
    def place(self) -> Path:
        """The place of the table below ``scores/``: runs in one folder were scored on the same
        images in the same way."""
        at = "native" if self.scored_at.startswith("native") else "network"
        folder = f"{self.protocol}-{self.protocol_digest}-{self.split}-{self.size}-{at}"
        return Path(slug(folder)) / f"{slug(self.model)}-{self.training}-seed{self.seed}.csv"


def words(value: Any) -> str:
    """A value without quotes, as it is written on the command line."""
    return json.dumps(value).replace('"', "")


def slug(text: str) -> str:
    """``text`` as part of a file's name."""
    return re.sub(r"[^\w.=-]+", "-", text.replace(" x ", "-")).strip("-").replace("=-", "=")


@dataclass(frozen=True)
class RecordedResult:
    """A scored run: its facts and the file of its per-image table."""

    facts: RunFacts
    file: Path

    @cached_property
    def table(self) -> ScoreTable:
        return ScoreTable.read(self.file)


def load_results(folder: Path) -> list[RecordedResult]:
    """All that was recorded below ``folder``, in the order of the files' names."""
    return [
        RecordedResult(read_facts(file), file.with_suffix(".csv"))
        for file in sorted((folder / "scores").glob("*/*.json"))
    ]


def read_facts(file: Path) -> RunFacts:
    """RunFacts that `write_facts` wrote; InputError where the file holds something else."""
    try:
        return RunFacts(**json.loads(file.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{file} does not hold the facts of a run ({error}); record that run again."
        ) from error


def write_facts(facts: RunFacts, file: Path) -> None:
    write_whole(file, f"{json.dumps(asdict(facts), indent=1)}\n".encode())
