"""Load the .sql files: `-- name: x` above each query, comments kept, one file per aggregate."""

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Final

_NAME: Final = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)


class Queries:
    """The queries of one file, by name: `queries.mark_sent`. An unknown name raises AttributeError."""

    def __init__(self, aggregate: str, texts: dict[str, str]) -> None:
        self.aggregate = aggregate
        self._texts = texts

    def __getattr__(self, name: str) -> str:
        try:
            return self._texts[name]
        except KeyError:
            raise AttributeError(f"shared/db/sql/{self.aggregate}.sql has no query named {name}") from None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._texts.items())


@cache
def load(aggregate: str) -> Queries:
    """Read `shared/db/sql/<aggregate>.sql`. Raises ValueError when it names a query twice."""
    text = (files("shared.db") / "sql" / f"{aggregate}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    names, bodies = parts[1::2], [body.strip() for body in parts[2::2]]
    if len(set(names)) != len(names):
        raise ValueError(f"{aggregate}.sql names a query twice")
    return Queries(aggregate, dict(zip(names, bodies, strict=True)))


def aggregates() -> list[str]:
    """Every .sql file's name, without its ending, sorted."""
    return sorted(
        entry.name.removesuffix(".sql")
        for entry in (files("shared.db") / "sql").iterdir()
        if entry.name.endswith(".sql")
    )
