"""The embedded Postgres over restarts, crashes and strange data folders."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import asyncpg
import pytest

from local.data_dir import DataDir
from local.embedded import postgres, unprivileged
from local.embedded.serving import serving
from local.embedded.unprivileged import Placement
from local.run_dir import is_alive
from shared.domain.errors import Misconfigured


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short path that every account can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="zht-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _prepare(home: Path, *, durable: bool = False) -> postgres.EmbeddedPostgres:
    sockets = Path(tempfile.mkdtemp(dir=home))
    return postgres.prepare(home / "postgres", sockets=sockets, durable=durable)


def _query(server: postgres.EmbeddedPostgres, statement: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(server.url())
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def test_committed_rows_survive_a_kill(home: Path) -> None:
    server = _prepare(home, durable=True)
    with serving(server, log=home / "log") as pid:
        _query(server, "CREATE TABLE kept AS SELECT 7 AS number")
        os.kill(pid, signal.SIGKILL)

    again = _prepare(home, durable=True)

    with serving(again, log=home / "log"):
        assert _query(again, "SELECT number FROM kept") == 7
        assert _query(again, "SHOW fsync") == "on"


def test_a_server_that_outlived_its_parent_is_stopped(home: Path) -> None:
    server = _prepare(home)
    with serving(server, log=home / "log") as orphan, subprocess.Popen(["sleep", "600"]) as bystander:
        again = _prepare(home)

        with serving(again, log=home / "log") as pid:
            assert pid != orphan
            assert _query(again, "SELECT 1") == 1
        assert bystander.poll() is None
        bystander.kill()


def test_a_lock_file_whose_pid_is_another_process_by_now_does_not_hinder(home: Path) -> None:
    server = _prepare(home)
    with subprocess.Popen(["sleep", "600"]) as bystander:
        (server.cluster / "postmaster.pid").write_text(f"{bystander.pid}\n{server.cluster}\n", encoding="ascii")

        again = _prepare(home)

        with serving(again, log=home / "log"):
            assert _query(again, "SELECT 1") == 1
        assert is_alive(bystander.pid)
        bystander.kill()


def test_an_interrupted_first_start_is_begun_anew(home: Path) -> None:
    unfinished = home / "postgres" / "unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n", encoding="ascii")

    server = _prepare(home)

    with serving(server, log=home / "log"):
        assert _query(server, "SELECT 1") == 1


def test_data_of_another_major_version_is_left_alone_and_explained(home: Path) -> None:
    cluster = home / "postgres" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("12\n", encoding="ascii")

    with pytest.raises(
        postgres.DataFolderUnusable, match=r"made by Postgres 12.*set ZAPHUB_DATABASE_URL.*mv "
    ) as error:
        _prepare(home)

    assert f"mv {cluster} {cluster}.12" in error.value.detail
    assert cluster.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up its rights")
class TestAsRoot:
    def test_the_files_stay_roots_where_user_namespaces_work(self, home: Path) -> None:
        home.chmod(0o700)

        server = _prepare(home)

        assert server.identity.kind == "namespace"
        assert server.cluster.stat().st_uid == 0
        with serving(server, log=home / "log"):
            assert _query(server, "SELECT 1") == 1

    @pytest.mark.parametrize("mode", [0o755, 0o700], ids=["reachable", "closed"])
    def test_an_unprivileged_account_runs_it_where_they_do_not(
        self, home: Path, mode: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        works = unprivileged._works

        def without_namespaces(placement: Placement) -> bool:
            return placement.identity.kind != "namespace" and works(placement)

        closed = home / "checkout"
        closed.mkdir(mode=mode)
        data = DataDir(closed)
        # The sockets are where those of an `up` are: in a folder of root's.
        with tempfile.TemporaryDirectory(prefix="zht-") as reachable, data.sockets() as folder:
            Path(reachable).chmod(0o755)
            monkeypatch.setattr(unprivileged, "_works", without_namespaces)
            monkeypatch.setattr(unprivileged, "_REACHABLE_CACHE", Path(reachable) / "cache")
            monkeypatch.setattr(unprivileged, "_REACHABLE_DATA", Path(reachable) / "data")
            sockets = folder / "postgres"
            sockets.mkdir(mode=0o700)

            server = postgres.prepare(data.postgres, sockets=sockets, durable=False)

            assert server.identity.kind == "account"
            assert server.cluster.is_relative_to(closed if mode == 0o755 else reachable)
            with serving(server, log=home / "log") as pid:
                assert Path(f"/proc/{pid}").stat().st_uid == server.identity.uid != 0
                assert _query(server, "SELECT 1") == 1

            shutil.rmtree(data.postgres)
            with pytest.raises(Misconfigured, match=r"holds a database.*is gone") if mode == 0o700 else nullcontext():
                data.secrets()
            data.remove()
            assert not server.cluster.exists()
