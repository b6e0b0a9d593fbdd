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


class SectionRecord(Record):
    """A record that is one section of a file with several: ``others`` holds all of them by name."""

    def __init__(
        self, file: Path, section: str, facts: dict[str, Any], others: dict[str, Any]
    ) -> None:
        self.section, self.others = section, others
        super().__init__(file, facts)

    def _write(self) -> None:
        self.others[self.section] = self.content
        write_whole(self.file, f"{json.dumps(self.others, indent=1)}\n".encode())
