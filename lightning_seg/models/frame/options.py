"""Options of networks, checked against their types and against each other."""

from typing import Any

from lightning_seg.errors import InputError


def typed(
    owner: str,
    cls: type,
    options: dict[str, Any],
    skip: set[str] | None = None,
) -> dict[str, Any]:
    """``options`` as the types that the constructor of ``cls`` states: a wrong one is a sentence,
    not a crash deep inside.

    Args:
        owner: whom the sentence names.
        skip: arguments of the constructor that are no options.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, skip=skip, fail_untyped=False)
    try:
        return parser.parse_object(options).as_dict()
    except ArgumentError as error:
        raise InputError(
            f"{owner} does not take these options: {' '.join(str(error).split())}"
        ) from error


def refuse(owner: str, **options: Any) -> None:
    """An InputError for the first of ``options`` that is given (not None, False, 0 or empty): it
    would have no effect."""
    for name, value in options.items():
        if value:
            raise InputError(f"{owner} has no use for {name}={value!r}; leave {name} out.")
