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


def open_streams() -> None:
    """Give the streams that whoever started this process has closed a place: what is printed would
    go to the file that is opened next."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))


@contextmanager
def one_sentence() -> Iterator[None]:
    """Guard a command: an InputError is printed as its sentence, and the process ends with exit
    code 2. So it is where the machine refuses a place or memory. A reader of the output that has read
    enough ends the command in silence."""
    open_streams()
    try:
        yield
        _flush()
    except InputError as error:
        _end(str(error))
    except BrokenPipeError:  # of `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, RuntimeError, MemoryError) as error:
        sentence = machine_refusal(error)
        if sentence is None:
            raise
        _end(sentence)


@contextmanager
def without_log() -> Iterator[None]:
    """Work without the lines that libraries log of a failure: its error, which is told, says the
    same."""
    import logging  # a seventh of the time of a plain --help

    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def machine_refusal(error: OSError | RuntimeError | MemoryError) -> str | None:
    """The sentence where the machine refuses a place, memory, files or processes; None for all
    else, such as a file that is not there, which may be our own fault."""
    if isinstance(error, OSError):
        return _refused_place(error)
    reason = (str(error).splitlines() or [""])[0][:200]
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in reason:
        return (
            f"the machine has not enough memory ({reason or 'none is left'}); lower data.batch_size or "
            "data.size, or name a folder as data.cache, which keeps images on the disk."
        )
    if "Too many open files" in reason:
        return (
            "the processes that load images may open no more files; allow more by `ulimit -n 4096`, "
            "or lower data.num_workers."
        )
    if reason.startswith("DataLoader worker"):
        return (
            f"a process that loads images was ended from outside ({reason}), as where memory or "
            "/dev/shm is full; lower data.num_workers, or see `lightning-seg doctor`."
        )
    return None


def _refused_place(error: OSError) -> str | None:
    if error.errno not in _REFUSED:
        return None
    named = f" ({str(error.filename)[:300]!r})" if error.filename else ""
    return (
        f"the file system says: {error.strerror}{named}; give another place, or mend that one; files "
        "written before are intact."
    )


def _flush() -> None:
    """Send what was printed; InputError where the disk of the output is full."""
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
