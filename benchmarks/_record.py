"""The JSON file of one phase of a session: whole on disk after every change, so that being cut off loses nothing."""

import json
from pathlib import Path
from typing import Any

from lightning_seg.files import write_whole


class Record:
    """A dictionary and its file; ``rows`` is its list of results."""

    def __init__(self, file: Path, facts: dict[str, Any]) -> None:
        self.file = file
        self.content: dict[str, Any] = {**facts, "rows": []}
        self._write()

    def update(self, **values: Any) -> None:
        self.content.update(values)
        self._write()

    def add(self, **row: Any) -> None:
        """One more row."""
        self.content["rows"].append(row)
        self._write()

    def _write(self) -> None:
        write_whole(self.file, f"{json.dumps(self.content, indent=1)}\n".encode())
