"""A pipeline of generators whose stages work in threads, each some items ahead of the next."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


def prefetched(
    pool: Executor,
    work: Callable[[A], B],
    items: Iterable[A],
    count: int,
) -> Iterator[B]:
    """``map(work, items)`` in the threads of ``pool``, in order, with up to ``count`` items under
    way or done.

    Items are taken when there is room for them, so that memory does not grow with their number. An
    error of ``work`` is raised at its item's turn.
    """
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            while len(waiting) >= count or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def in_background(items: Iterable[A], count: int) -> Iterator[A]:
    """``items``, which are made in a thread of their own, up to ``count`` of them before they are
    asked for."""
    source: Iterator[Any] = iter(items)
    end: Any = object()
    with ThreadPoolExecutor(1) as pool:
        for item in prefetched(pool, lambda _: next(source, end), itertools.repeat(None), count):
            if item is end:
                return
            yield item
