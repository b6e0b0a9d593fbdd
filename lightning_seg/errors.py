"""The one exception for bad input: the command line prints its sentence and exits with code 2."""

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import NoReturn

_REFUSED = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EMFILE),
)
_ALIKE = 0.5  # from which two names may be meant for each other
_LISTED = 40  # names that one sentence holds


class InputError(ValueError):
    """Input a user can mend. The message is one sentence: the value, the legal values, the cure."""


class PortTakenError(InputError):
    """The port on which the processes of a run were to meet is taken; another attempt may find it free."""


def unknown(kind: str, name: object, choices: Iterable[str], meant: str = "") -> InputError:
    """The error for a misspelt name, with its near match: ``no loss named 'dise'; did you mean 'dice'? There are ...``

    Args:
        meant: what the name stands for elsewhere, where that is known; it takes the place of the
            near match.
    """
    names = sorted(choices)
    near = meant or near_match(str(name), names)
    hint = f"did you mean {near!r}? There" if near else "there"
    listing = (
        ", ".join(names)
        if len(names) <= _LISTED
        else f"{len(names)} of them, {names[0]} to {names[-1]}"
    )
    return InputError(f"no {kind} named {str(name)!r}; {hint} are {listing}.")


def near_match(name: str, choices: Iterable[str], alike: float = _ALIKE) -> str:
    """The choice that a misspelt name is nearest to; empty where none is near."""
    return next(iter(near_matches(name, choices, 1, alike)), "")


def near_matches(name: str, choices: Iterable[str], most: int, alike: float = _ALIKE) -> list[str]:
    """The nearest choices, best first. Case and punctuation count for nothing, and ``+`` is
    ``plus``: ``UNet++`` is ``unetplusplus``."""
    spelt: dict[str, list[str]] = {}
    for choice in choices:
        spelt.setdefault(plain_name(choice), []).append(choice)
    near = get_close_matches(plain_name(name), spelt, n=most, cutoff=alike)
    return [choice for plain in near for choice in spelt[plain]][:most]


def plain_name(name: str) -> str:
    """The letters and digits of a name, in lower case, ``+`` as ``plus``."""
    return re.sub(r"[\W_]", "", name.lower().replace("+", "plus"))


# what a terminal obeys, breaks lines at or turns around, and bytes that are not UTF-8
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text in one line, with signs that are not seen written out, so that it can be printed and
    stored: a file's name may hold any."""
    plain = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), plain)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Guard a command: an InputError is printed as its sentence, and the process ends with exit
    code 2. So it is where the file system refuses a place. A reader of the output that has read
    enough ends the command in silence."""
    try:
        yield
        _flush()
    except InputError as error:
        _end(str(error))
    except BrokenPipeError:  # of `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        sentence = refused_place(error)
        if sentence is None:
            raise
        _end(sentence)


def refused_place(error: OSError) -> str | None:
    """The sentence where the file system refuses a place that a user chose; None for all else, such
    as a file that is not there, which may be our own fault."""
    if error.errno not in _REFUSED:
        return None
    named = f" ({str(error.filename)[:300]!r})" if error.filename else ""
    return (
        f"the file system says: {error.strerror}{named}; give another place, or mend that one; files "
        "written before are intact."
    )


def _flush() -> None:
    """Send what was printed; InputError where the disk of the output is full."""
    if sys.stdout is None:  # it was closed by whoever started this process
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # Python would try again at its end, and print that as a fault
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise InputError(
            f"the output of this command cannot be written ({error.strerror}); give it another place."
        ) from error


def _end(sentence: str) -> NoReturn:
    print(f"error: {printable(sentence)}", file=sys.stderr)
    raise SystemExit(2) from None
