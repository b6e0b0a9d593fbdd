"""Where a study is kept: a journal file beside its runs, or a database. Both outlive kill -9, a
full disk and a restart.

Storage is a path (a journal file), ``postgresql://user@host/database``, ``sqlite:///file`` or
``grpc://host:port``.
"""

import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock, get_lock_file
from optuna.storages.journal._storage import JournalOperation

from lightning_seg.errors import InputError
from lightning_seg.files import real_path
from lightning_seg.files.locks import locked

PATIENCE = 600.0  # seconds for which a storage that went away, or a full disk, is waited for
optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
STORAGE_VARIABLE = "LIGHTNING_SEG_STORAGE"  # in place of --storage; no list of processes shows it
_DOWN = "refused|time|starting up|shutting down|closed|unreachable|reset"
_OF_RUNNING_TRIALS = frozenset(
    {
        JournalOperation.SET_TRIAL_PARAM,
        JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE,
        JournalOperation.SET_TRIAL_USER_ATTR,
        JournalOperation.SET_TRIAL_SYSTEM_ATTR,
    }
)
_log = logging.getLogger("hpo")


class _Flock(BaseJournalFileLock):
    """A lock that the kernel takes from a dead process (Optuna's own ones stay for 30 seconds after
    kill -9).

    Who gets it drops a half-written last line, which a full disk or kill -9 leaves and after which
    nothing could be read.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._held = ExitStack()

    def acquire(self) -> bool:
        held = ExitStack()
        held.enter_context(locked(Path(f"{self._path}.flock"), needed=True))
        self._held = held
        _drop_torn_line(self._path)
        return True

    def release(self) -> None:
        self._held.close()


def _drop_torn_line(path: str) -> None:
    with open(path, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if file.read() not in (b"", b"\n"):
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


class JournalFile(JournalFileBackend):
    """A journal that waits for its disk where a trial begins or ends, not at each of its values.

    Whatever is told stands in the file at once: other processes read it, and kill -9 takes nothing.
    Should the whole machine go down, the trials that ran on it are run again, whatever they had
    told; what ends a trial brings all that was told before it to the disk.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations behind those that are there."""
        content = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with get_lock_file(self._lock), open(self._file_path, "ab") as file:
            file.write(content.encode())
            file.flush()
            if any(log["op_code"] not in _OF_RUNNING_TRIALS for log in logs):
                os.fsync(file.fileno())


class StorageAwayError(InputError):
    """The storage has not answered for too long, or the process was to end meanwhile."""


class _Patient:
    """A storage whose every call is tried again while the database is away or the disk is full, for
    `PATIENCE` seconds.

    ``stop`` says whether the process is to end, with which its patience does too.
    """

    def __init__(self, storage: BaseStorage, stop: Callable[[], bool]) -> None:
        self._storage, self._stop = storage, stop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._storage, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            return _patiently(lambda: found(*args, **kwargs), self._stop)

        return call


def _patiently(
    call: Callable[[], Any],
    stop: Callable[[], bool],
    away: Callable[[Exception], bool] | None = None,
) -> Any:
    """The result of ``call``, which is repeated while the storage is away; answers such as "no such
    study" are errors at once."""
    end, pause, told = time.monotonic() + PATIENCE, 0.1, False
    while True:
        try:
            return call()
        except Exception as error:
            if not (away or _away)(error):
                raise
            if stop() or time.monotonic() > end:
                raise StorageAwayError(
                    f"the storage does not answer ({_first_line(error)}); once it does, the same command goes on."
                ) from error
            if not told:
                _log.warning(
                    "the storage does not answer (%s); trying for %.0f s",
                    _first_line(error),
                    PATIENCE,
                )
            told = True
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def _away(error: Exception) -> bool:
    """Tell whether the storage could not be spoken to, as against an answer such as "no such
    study"."""
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError | StorageInternalError) or library in (
        "sqlalchemy",
        "psycopg",
        "grpc",
    )


def _down(error: Exception) -> bool:
    """Tell whether a server is down or starts, as against a wrong name, user or password."""
    return _away(error) and re.search(_DOWN, str(error)) is not None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def hide_password() -> None:
    """Start this process anew where its arguments, which every list of processes shows, hold the
    password of a database: the storage moves to the environment."""
    args = sys.orig_argv
    for place, arg in enumerate(args):
        option, equals, value = arg.partition("=")
        url = value if equals else "".join(args[place + 1 : place + 2])
        if option == "--storage" and shown(url) != url.replace("postgresql+psycopg", "postgresql"):
            kept = [*args[:place], *args[place + (1 if equals else 2) :]]
            os.execve(sys.executable, kept, os.environ | {STORAGE_VARIABLE: url})


def resolve(storage: str | Path | None, runs: Path, study: str) -> str:
    """The one name of a storage that every process can use: a URL, or the absolute path of a
    journal file."""
    if storage is None:
        return str(real_path(runs / study / "study.journal"))
    text = str(storage)
    if text.startswith("sqlite:///"):
        return f"sqlite:///{real_path(text.removeprefix('sqlite:///'))}"
    if "://" in text:
        return text.replace("postgres://", "postgresql://", 1).replace(
            "postgresql://", "postgresql+psycopg://", 1
        )
    return str(real_path(text))


def shown(storage: str) -> str:
    """The storage without its password, and as the user writes it."""
    return re.sub(
        r"(://[^:/@]+):[^@]*@",
        r"\1:***@",
        storage.replace("postgresql+psycopg://", "postgresql://"),
    )


def open_storage(
    storage: str,
    create: bool = False,
    stop: Callable[[], bool] = lambda: False,
    wait: bool = False,
) -> BaseStorage:
    """The storage of that name; InputError where it cannot be reached.

    Args:
        create: make the folder of a journal.
        stop: whether the process is to end, with which its patience does too.
        wait: a server that is down or starts is waited for, as one that goes away later is.
    """
    try:
        made: Callable[[], BaseStorage] = lambda: _made_once(storage, create)  # noqa: E731
        return _Patient(_patiently(made, stop, _down) if wait else made(), stop)  # type: ignore[return-value]
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the storage {shown(storage)!r} cannot be reached ({_first_line(error)}); start its server, or leave --storage out "
            "for a journal file."
        ) from error


def _made_once(storage: str, create: bool) -> BaseStorage:
    """Two processes that make the tables of a database at once hinder each other: the second look
    finds them."""
    for _ in range(5):
        try:
            return _open(storage, create)
        except Exception as error:
            if not re.search("already exists|duplicate key|UNIQUE constraint", str(error)):
                raise
            time.sleep(0.5)
    return _open(storage, create)


def _open(storage: str, create: bool) -> BaseStorage:
    if storage.startswith("grpc://"):
        host, _, port = storage.removeprefix("grpc://").partition(":")
        proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port or 13000))
        proxy.wait_server_ready(timeout=20)
        return proxy
    if "://" in storage:
        arguments = {"timeout": 60} if storage.startswith("sqlite") else {"connect_timeout": 10}
        engine = {"pool_pre_ping": True, "connect_args": arguments}
        return optuna.storages.get_storage(RDBStorage(storage, engine_kwargs=engine))
    path = Path(storage)
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.is_file():
        raise InputError(
            f"there is no study at {storage!r}; give the --storage that `run` was given."
        )
    return JournalStorage(JournalFile(str(path), _Flock(str(path))))
