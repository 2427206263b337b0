"""Asks every side at one moment what it knows of a run, and lets the checker judge it."""

from collections.abc import Sequence

from local.soak.evidence import Evidence, Findings, Ledger, Row, findings
from local.soak.stand import Linked, Stand


async def look(stand: Stand, linked: Sequence[Linked], ledger: Ledger) -> Findings:
    """What the API, the wire and the webhooks say now, against what clients and contacts did."""
    outbound, inbound = list[Row](), list[Row]()
    for one in linked:
        outbound += await stand.messages(one.connection_id, "outbound")
        inbound += await stand.messages(one.connection_id, "inbound")
    return findings(Evidence(ledger, outbound, inbound, await stand.wire(), stand.sink))
