"""The clients on the page about events do what it says: they follow, and go on where they were."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.db.pool import Connection
from tests.integration.api.conftest import ADMIN_KEY
from tests.integration.api.event_listener import write_event
from tests.integration.api.test_server import Server, serving

_PAGE = (Path(__file__).parents[3] / "docs/events.md").read_text()


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[Server]:
    with serving(database_url, tmp_path) as server:
        yield server


def _code(language: str, beginning: str) -> str:
    [code] = [code for code in re.findall(rf"```{language}\n(.*?)```", _PAGE, re.DOTALL) if code.startswith(beginning)]
    return str(code)


async def test_the_python_client_goes_on_where_it_was(server: Server, database: Connection) -> None:
    names: dict[str, Any] = {}
    exec(_code("python", "import json"), names)
    follow: Callable[..., Iterator[tuple[str, dict[str, Any]]]] = names["follow"]
    made = [await write_event(database) for _ in range(4)]

    def read(after: str, count: int) -> list[str]:
        events = follow(server.url, ADMIN_KEY, after)
        ids = [event_id for event_id, _ in (next(events) for _ in range(count))]
        events.close()  # type: ignore[attr-defined]
        return ids

    first = await asyncio.to_thread(read, made[0], 2)
    rest = await asyncio.to_thread(read, first[-1], 1)
    with pytest.raises(httpx.HTTPStatusError, match="410"):
        await asyncio.to_thread(read, made[0][:-12] + "0" * 12, 1)

    assert first + rest == made[1:]


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
async def test_the_javascript_client_goes_on_where_it_was(server: Server, database: Connection) -> None:
    made = [await write_event(database) for _ in range(4)]
    script = (
        _code("js", "async function* follow")
        + """
        (async () => {
          const [url, key, ids] = JSON.parse(process.argv[1]);
          const seen = [];
          for await (const event of follow(url, key, ids[0])) if (seen.push(event.id) === 2) break;
          for await (const event of follow(url, key, seen[1])) if (seen.push(event.id) === 3) break;
          let refused = "";
          const unknown = ids[0].slice(0, -12) + "000000000000";
          try { await follow(url, key, unknown).next(); } catch (error) { refused = error.message; }
          console.log(JSON.stringify([seen, JSON.parse(refused).code]));
          process.exit();
        })();
        """
    )

    done = await asyncio.to_thread(
        subprocess.run,
        ["node", "-e", script, json.dumps([server.url, ADMIN_KEY, made])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [made[1:], "EVENT_GONE"]
