"""Where a data set comes from: archives that anyone may fetch, or owners who hand it out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """An archive of the owners.

    Attributes:
        folder: where in the data set's folder its content goes.
        sha256: None where no one has published it; then that of the first download is written
            beside it, and later ones must have the same.
    """

    url: str
    folder: str = ""
    sha256: str | None = None


@dataclass(frozen=True)
class PublicOrigin:
    """Archives that the owners let anyone fetch.

    Attributes:
        folder: the folder of the data set.
        opened_by_source: the class itself extracts the archive and checks every file.
    """

    folder: str
    archives: tuple[Archive, ...]
    opened_by_source: bool = False


@dataclass(frozen=True)
class GuardedOrigin:
    """Owners from whom only people get the data.

    Attributes:
        reason: why no program fetches it: "its owners ...".
        layout: the files that are expected then.
    """

    reason: str
    layout: str


Origin = PublicOrigin | GuardedOrigin
