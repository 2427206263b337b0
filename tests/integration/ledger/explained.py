"""What Postgres really did for a call of the ledger: the plan of every statement, those inside functions too."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from shared.db.pool import Connection

# Auto-explain speaks to the client as it plans and runs; the counts are of rows that really came.
SETTINGS = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_nested_statements = on;
SET auto_explain.log_analyze = on;
SET auto_explain.log_timing = off;
SET auto_explain.log_format = json;
SET auto_explain.log_level = notice;
"""


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a plan. `rows` came in over all its loops, those included that a filter threw away."""

    kind: str
    table: str
    rows: int
    query: str


@dataclass(slots=True)
class Explained:
    """The plans of the statements that ran, and what is wrong with them."""

    plans: list[dict[str, Any]] = field(default_factory=list)

    def nodes(self) -> Iterator[Node]:
        for plan in self.plans:
            yield from _nodes(plan["Plan"], " ".join(plan["Query Text"].split())[:120])

    def whole_tables(self) -> set[str]:
        """Where `jobs` or `job_groups` were read from end to end."""
        return {
            f"{node.table}: {node.query}"
            for node in self.nodes()
            if node.kind == "Seq Scan" and node.table in ("jobs", "job_groups")
        }

    def big_sorts(self, *, at_most: int) -> set[str]:
        """Where more than so many rows were sorted."""
        return {
            f"{node.rows} rows: {node.query}" for node in self.nodes() if "Sort" in node.kind and node.rows > at_most
        }

    def rows_of(self, table: str) -> int:
        return sum(node.rows for node in self.nodes() if node.table == table and "Scan" in node.kind)


@asynccontextmanager
async def explained(conn: Connection) -> AsyncIterator[Explained]:
    """Collect the plans of what runs on this connection within the block."""
    found = Explained()

    def listen(_conn: object, message: Any) -> None:
        _, is_plan, plan = str(message.message).partition("plan:\n")
        if is_plan:
            found.plans.append(json.loads(plan))

    await conn.execute(SETTINGS)
    conn.add_log_listener(listen)
    try:
        yield found
        # The listener is told in the loop's next turn.
        await asyncio.sleep(0)
    finally:
        conn.remove_log_listener(listen)
        await conn.execute("SET auto_explain.log_min_duration = -1")


def _nodes(plan: dict[str, Any], query: str) -> Iterator[Node]:
    below = plan.get("Plans", [])
    own = (
        plan.get("Actual Rows", 0)
        + plan.get("Rows Removed by Filter", 0)
        + plan.get("Rows Removed by Index Recheck", 0)
    )
    # A sort's work is what it is given, not what a LIMIT above lets through.
    came = max([own, *[under.get("Actual Rows", 0) for under in below]]) if "Sort" in plan["Node Type"] else own
    yield Node(plan["Node Type"], plan.get("Relation Name", ""), round(came * plan.get("Actual Loops", 1)), query)
    for under in below:
        yield from _nodes(under, query)
