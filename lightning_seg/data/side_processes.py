"""Processes beside this one, each of which does pieces of one kind of work; they end with it.

`SideProcesses` starts this file with ``python -m``. No script is imported anew, as multiprocessing
would, and a helper holds no copy of what its parent has open.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, NoReturn, TypeVar

from lightning_seg.errors import InputError

A = TypeVar("A")
B = TypeVar("B")


class SideProcesses(Generic[A, B]):
    """Processes that do pieces of work, one at a time each, as a context.

    They end at once where the context is left, this object is gone, or this process, however it
    ends. Ctrl-C reaches this process alone.

    Args:
        maker: a function of a module, called in each process; what it returns does the work.
        arguments: of ``maker``, for each process.
    """

    def __init__(
        self,
        maker: Callable[..., Callable[[A], B]],
        arguments: Sequence[tuple[Any, ...]],
    ) -> None:
        self._helpers = [_Helper(maker, given) for given in arguments]
        self._free: SimpleQueue[_Helper] = SimpleQueue()
        for one in self._helpers:
            self._free.put(one)
        self.end = weakref.finalize(self, _end_all, self._helpers)

    def __len__(self) -> int:
        return len(self._helpers)

    def __enter__(self) -> "SideProcesses[A, B]":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def __call__(self, piece: A) -> B:
        """The work on a piece, in the process that is free next; to be called by several threads.

        What the work raises is raised here. InputError where the process ended before its time.
        """
        helper = self._free.get()
        try:
            found: B = helper.work(piece)
            return found
        finally:
            self._free.put(helper)


class _Helper:
    def __init__(
        self,
        maker: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        path = os.pathsep.join(place or os.getcwd() for place in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        with suppress(BrokenPipeError):  # `work` says that it has ended
            self._send((maker, arguments))

    def work(self, piece: Any) -> Any:
        assert self._process.stdout is not None
        try:
            self._send(piece)
            done, found = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise InputError(_ending(self._process.wait())) from None
        if done:
            return found
        raise found

    def _send(self, content: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(pickle.dumps(content, pickle.HIGHEST_PROTOCOL))
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> None:
        self._process.wait()


def _ending(code: int) -> str:
    how = f"with exit code {code}"
    if code < 0:
        name = signal.Signals(-code).name
        how = f"by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    return f"a process that helped this one was ended {how}; start the command again."


def _end_all(helpers: Sequence[_Helper]) -> None:
    for one in helpers:
        one.kill()
    for one in helpers:
        one.wait()


def main() -> NoReturn:
    """Do the work of a helper until its parent closes the pipe, or is gone."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the work prints is no answer
    pieces: SimpleQueue[Any] = SimpleQueue()
    maker, arguments = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_read_pieces, args=[pieces], daemon=True).start()
    made, work = _attempt(maker, *arguments)
    while True:
        piece = pieces.get()
        answer = _attempt(work, piece) if made else (made, work)
        answers.write(_pickled(answer))
        answers.flush()


def _read_pieces(pieces: SimpleQueue[Any]) -> None:
    while True:
        try:
            pieces.put(pickle.load(sys.stdin.buffer))
        except EOFError:
            os._exit(0)  # whatever the work is at


def _attempt(work: Callable[..., Any], *arguments: Any) -> tuple[bool, Any]:
    """(True, what the work returns), or (False, what it raises)."""
    try:
        return True, work(*arguments)
    except Exception as error:
        if not isinstance(error, InputError):
            error.add_note(traceback.format_exc())
        return False, error


def _pickled(answer: tuple[bool, Any]) -> bytes:
    try:
        content = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        if not answer[0]:
            pickle.loads(content)  # some errors cannot be made anew
        return content
    except Exception:
        told = "".join(traceback.format_exception_only(answer[1])) if not answer[0] else "no answer"
        return pickle.dumps((False, RuntimeError(told)))


if __name__ == "__main__":
    main()
