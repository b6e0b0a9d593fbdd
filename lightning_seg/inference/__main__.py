"""``lightning-seg predict``: masks of anyone's pictures, videos and volumes, or of a data set's
split."""

import sys

from lightning_seg.errors import one_sentence
from lightning_seg.inference.options import read_arguments


def main(args: list[str]) -> None:
    """Predict. Exit code 1 where some of the input could not be, 2 for an error."""
    given = read_arguments(args)
    from lightning_seg.inference.command import (
        predict_command,  # torch takes seconds, and --help none
    )

    predict_command(given)


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
