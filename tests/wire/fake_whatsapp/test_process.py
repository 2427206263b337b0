"""The server as a process."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.wire.fake_whatsapp.processes import ROOT, Server

pytestmark = [pytest.mark.wire, pytest.mark.anyio]


async def run_until_it_ends(*arguments: str) -> tuple[int, str]:
    """The exit code and what it complained about."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "local.fake_whatsapp", *arguments],
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    assert process.returncode is not None
    return process.returncode, complaint.decode()


async def test_a_second_server_is_kept_out_of_the_folder(tmp_path: Path) -> None:
    server = Server(tmp_path)
    await server.start()
    try:
        code, complaint = await run_until_it_ends("--data-dir", str(tmp_path))
    finally:
        await server.close()

    assert (code, complaint.splitlines()) == (1, [f"fake-whatsapp: another fake WhatsApp server runs on {tmp_path}"])


async def test_a_taken_control_port_is_named(tmp_path: Path) -> None:
    server = Server(tmp_path / "first")
    await server.start()
    port = server.control_url.rpartition(":")[2]
    try:
        code, complaint = await run_until_it_ends("--data-dir", str(tmp_path / "second"), "--control-port", port)
    finally:
        await server.close()

    assert code == 1
    assert port in complaint
    assert len(complaint.splitlines()) == 1


async def test_the_first_line_of_output_says_where_the_server_is(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "local.fake_whatsapp", "--data-dir", str(tmp_path)],
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = json.loads(await process.stdout.readline())

    process.terminate()
    rest, complaint = await process.communicate()

    assert set(line) == {"control_url", "proxy_url"}
    assert (process.returncode, rest, complaint) == (0, b"", b"")
