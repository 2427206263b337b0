"""What the processes of a running ZapHub hold: memory, threads, files, connections to Postgres. Linux only."""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.db.pool import Pool

_KIB: Final = 1024
_MIB: Final = 1024 * 1024
_CONNECTIONS: Final = """
SELECT application_name, count(*) AS connections
  FROM pg_stat_activity
 WHERE backend_type = 'client backend'
   AND pid <> pg_backend_pid()
 GROUP BY application_name
"""


@dataclass(frozen=True, slots=True)
class Held:
    """What some processes hold together. `pss_mib` counts each shared page once among all that share it."""

    rss_mib: float = 0.0
    pss_mib: float = 0.0
    threads: int = 0
    files: int = 0

    def __add__(self, other: "Held") -> "Held":
        return Held(
            self.rss_mib + other.rss_mib,
            self.pss_mib + other.pss_mib,
            self.threads + other.threads,
            self.files + other.files,
        )


def held(pids: Iterable[int]) -> Held:
    """Add up what these processes hold; one that ended meanwhile holds nothing."""
    total = Held()
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            total += _of(Path(f"/proc/{pid}"))
    return total


def _of(process: Path) -> Held:
    memory = _fields(process / "smaps_rollup")
    return Held(
        rss_mib=memory["Rss"] / _KIB,
        pss_mib=memory["Pss"] / _KIB,
        threads=_fields(process / "status")["Threads"],
        files=sum(1 for _ in (process / "fd").iterdir()),
    )


def _fields(path: Path) -> dict[str, int]:
    """The lines `Name:  number …` of a file of /proc; sizes are in KiB."""
    found: dict[str, int] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(":")
        first = rest.split()[:1]
        if first and first[0].isdigit():
            found[name] = int(first[0])
    return found


def hosts(pids: Mapping[str, int]) -> list[int]:
    """The processes of the session host in a ready file: its supervisor, and those that hold the sockets."""
    return [pid for name, pid in pids.items() if name.startswith("session-host")]


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    with suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
        return [pid, *(one for child in children for one in family(int(child)))]
    return []


async def connections(pool: Pool) -> Counter[str]:
    """How many connections each program has to Postgres, by the name that it gave itself."""
    rows = await pool.fetch(_CONNECTIONS)
    return Counter({row["application_name"] or "(no name)": row["connections"] for row in rows})
