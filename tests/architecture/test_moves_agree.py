"""The moves that the database allows are the moves that the code knows: two tables, one truth."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

import asyncpg

from shared.domain import message, session

Status = TypeVar("Status", bound=StrEnum)


async def test_the_database_allows_the_moves_of_a_message_that_the_code_allows(database_url: str) -> None:
    stored = await _pairs(database_url, "SELECT from_status, to_status FROM message_moves")

    assert stored == _moves(message.MOVES)


async def test_the_database_allows_the_moves_of_a_session_that_the_code_allows(database_url: str) -> None:
    stored = await _pairs(database_url, "SELECT from_status, to_status FROM connection_moves")

    assert stored == _moves(session.MOVES)


def _moves(moves: Mapping[Status, frozenset[Status]]) -> set[tuple[str, str]]:
    return {(str(start), str(end)) for start, ends in moves.items() for end in ends}


async def _pairs(database_url: str, query: str) -> set[tuple[str, str]]:
    connection = await asyncpg.connect(database_url)
    try:
        return {(row["from_status"], row["to_status"]) for row in await connection.fetch(query)}
    finally:
        await connection.close()
