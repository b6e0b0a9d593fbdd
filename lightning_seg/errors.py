"""The one exception for bad input: the command line prints its sentence and exits with code 2."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class InputError(ValueError):
    """Input a user can mend. The message is one sentence: the value, the legal values, the cure."""


def unknown(kind: str, name: object, choices: Iterable[str]) -> InputError:
    """The error for a misspelt name, with its near match: ``no loss named 'dise'; did you mean 'dice'? There are ...``"""
    names = sorted(choices)
    near = get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? There" if near else "there"
    listing = (
        ", ".join(names) if len(names) <= 40 else f"{len(names)} of them, {names[0]} to {names[-1]}"
    )
    return InputError(f"no {kind} named {str(name)!r}; {hint} are {listing}.")


@contextmanager
def one_sentence() -> Iterator[None]:
    """Guard a command: an InputError is printed as its sentence, and the process ends with exit code 2."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # `... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
