"""What a request may ask for, and how it is refused."""

import math
from typing import NamedTuple

from lightning_seg.errors import InputError


class Limits(NamedTuple):
    """The limits of one server.

    Attributes:
        bytes: of a file.
        pixels: of a picture.
        places: pictures that wait or are predicted; the network takes one after the other.
        upload_seconds: in which a file must have arrived.
        wait_seconds: in which the pictures before it must be done.
        predict_seconds: in which it must be predicted, from its turn.
        uploads: requests whose files are on their way at once.
    """

    bytes: int = 20_000_000
    pixels: int = 50_000_000
    places: int = 5
    upload_seconds: float = 30
    wait_seconds: float = 600
    predict_seconds: float = 120
    uploads: int = 24

    @classmethod
    def of(cls, megabytes: float, pixels: int) -> "Limits":
        """The limits that the command line gives."""
        if not (math.isfinite(megabytes) and megabytes > 0):
            raise InputError(
                f"--max_mb is {megabytes:g}; give a number of megabytes above 0, such as 20."
            )
        if pixels < 1:
            raise InputError(f"--max_pixels is {pixels}; give a whole number from 1.")
        return cls(math.ceil(megabytes * 1e6), pixels)


class RequestError(Exception):
    """A request that gets a status and one sentence for its answer; ``retry``: seconds after which
    to try again."""

    def __init__(self, status: int, sentence: str, retry: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence
        self.headers = {} if retry is None else {"Retry-After": str(retry)}
