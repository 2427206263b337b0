"""The server's disk: writes in order, committed in groups, and a promise to call when they are safe."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).with_name("schema.sql")

# What later versions added to tables that a folder of an earlier one has already.
ADDED_COLUMNS = (
    ("letter", "chat", "TEXT NOT NULL DEFAULT ''"),
    ("chat_group", "without", "TEXT NOT NULL DEFAULT '[]'"),
    ("contact", "addressing", "TEXT NOT NULL DEFAULT 'pn'"),
    ("contact", "spellings", "TEXT NOT NULL DEFAULT '[]'"),
    ("letter", "garbled", "INTEGER NOT NULL DEFAULT 0"),
)

Row = tuple[Any, ...]  # SQLite's columns have no static type


class Store:
    """One SQLite file. Writes are queued in call order; one transaction takes all that wait.

    The writes of one turn of the event loop land in the same transaction, so that a ratchet never
    reaches the disk without the message that moved it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._pending: list[tuple[str, Row]] = []
        self._committed: asyncio.Future[None] | None = None
        self._in_flight: asyncio.Future[None] | None = None
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit returns after fsync, which is what an ack to the client promises.
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(SCHEMA.read_text())
        for table, column, definition in ADDED_COLUMNS:
            known = {row[1] for row in self._connection.execute(f"PRAGMA table_info({table})")}
            if column not in known:
                self._connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {definition}")

    def write(self, statement: str, *parameters: object) -> None:
        """Queue one statement; call it only from the event loop, and `durable` to wait for the disk."""
        self._pending.append((statement, parameters))
        self._wake.set()

    async def durable(self) -> None:
        """Return when everything written so far is on disk; raises sqlite3.Error when the disk refuses it."""
        if self._pending:
            if self._committed is None:
                self._committed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._committed)
        elif self._in_flight is not None:
            await asyncio.shield(self._in_flight)

    def read(self, query: str, *parameters: object) -> list[Row]:
        """Committed rows; blocks, so call it before serving or in a thread."""
        with closing(sqlite3.connect(self._path)) as reader:
            return reader.execute(query, parameters).fetchall()

    async def run(self) -> None:
        """Commit what is written until `stop`, then let go of the file; a disk that refuses ends the server."""
        try:
            while not self._is_stopping:
                await self._wake.wait()
                self._wake.clear()
                await self._commit_pending()
            await self._commit_pending()
        finally:
            self._connection.close()

    def stop(self) -> None:
        """Let `run` commit what still waits and return; nothing may be written afterwards."""
        self._is_stopping = True
        self._wake.set()

    async def _commit_pending(self) -> None:
        batch, self._pending = self._pending, []
        done = self._committed or asyncio.get_running_loop().create_future()
        self._committed = None
        if not batch:
            return
        self._in_flight = done
        try:
            await asyncio.to_thread(self._commit, batch)
        except sqlite3.Error as error:
            done.set_exception(error)
            done.exception()  # mark it as seen: nobody may be waiting
            raise
        done.set_result(None)
        self._in_flight = None

    def _commit(self, batch: list[tuple[str, Row]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, parameters in batch:
                self._connection.execute(statement, parameters)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def fact(store: Store, name: str) -> bytes | None:
    """A stored fact of the server, such as its keys, or None."""
    rows = store.read("SELECT value FROM fact WHERE name = ?", name)
    return None if not rows else bytes(rows[0][0])


def keep_fact(store: Store, name: str, value: bytes) -> None:
    store.write(
        "INSERT INTO fact (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2", name, value
    )
