"""A disk that is full, on a small file system of its own: nothing that WhatsApp handed over is lost."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from shared.db.pool import Record
from tests.wire.session_host.stage import RECEIVE, HostProcess, Stage, until

pytestmark = [pytest.mark.wire, pytest.mark.timeout(180)]

PHONE = "5511977760001"
# Room for the reserve (4 MiB), for twice as much that must be free beside it, and for some files.
DISK = "24m"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with that much room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("only root may mount a small file system; the unit tests of the journal inject the refusal")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes every byte that is left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 12))
    return filler


async def test_a_full_disk_closes_the_socket_says_why_and_loses_nothing(
    stage: Stage, disk: Path, start_host: Callable[..., HostProcess]
) -> None:
    await start_host(ZAPHUB_DATA_DIR=str(disk)).until_ready()
    session = await stage.connection()
    await stage.pair(session, PHONE)
    wire_ids = [stage.inbound(PHONE, "there is room")]
    await stage.until_jobs(RECEIVE)

    filler = fill(disk)
    wire_ids += [stage.inbound(PHONE, f"the disk is full, {number}") for number in range(3)]

    async def is_full() -> Record | None:
        row = await stage.row(session)
        return row if (row["status_reason"] or "").startswith("disk_full") else None

    row = await until(is_full)
    assert row is not None
    assert row["status"] == "disconnected"
    assert "ZAPHUB_DATA_DIR" in row["status_reason"]
    [device] = [one for one in stage.fake.sessions() if one["phone"] == PHONE]
    assert not device["connected"]

    wire_ids += [stage.inbound(PHONE, f"nobody is connected, {number}") for number in range(3)]
    filler.unlink()
    await stage.until_status(session, "connected")
    jobs = await stage.until_jobs(RECEIVE, count=len(wire_ids))
    assert [job["waMessageId"] for job in jobs] == wire_ids
