"""The tables of the journal, as the migrations that make them: `migrations/1.sql`, then 2, and so on."""

from __future__ import annotations

from importlib.resources import files
from itertools import count, takewhile

APPLICATION_ID = 0x4D54534A  # "MTSJ"

_FOLDER = files(__package__) / "migrations"
_FILES = takewhile(lambda file: file.is_file(), (_FOLDER / f"{number}.sql" for number in count(1)))
MIGRATIONS = tuple(file.read_text(encoding="utf-8") for file in _FILES)
