"""`./zh doctor`: what is wrong with this set-up, and the command that mends it."""

import asyncio
import ctypes.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from local.data_dir import DataDir
from local.embedded.binaries import find_postgres, find_valkey
from local.environment import is_set, local_settings
from local.one_part import found_data_dir, joined_environment
from local.ports import is_free
from shared.domain.errors import Misconfigured, ZapHubError

_OLDEST_PYTHON = (3, 11)
_FIRST_UNTRIED_PYTHON = (3, 15)
# initdb takes 40 MB, and a Postgres whose disk is full stops taking work.
_LEAST_FREE_MIB = 512
_ANSWER_TIMEOUT_S = 5
_INSTALL = "rm -f .venv/.zh-* && ./zh doctor"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `remedy` is what to do, empty when all is well; only an `is_error` fails."""

    name: str
    found: str
    remedy: str = ""
    is_error: bool = True


def doctor(*, data_dir: Path | None) -> int:
    """Look at everything, one line each; 0 when nothing stands in the way."""
    looks: list[Callable[[], Finding]] = [
        _python,
        _settings,
        _postgres,
        _valkey,
        _libmagic,
        _ffmpeg,
        lambda: _data_folder(found_data_dir(data_dir)),
        lambda: _disk(found_data_dir(data_dir)),
        _port,
        lambda: _database(data_dir),
        lambda: _redis(data_dir),
    ]
    findings = list(_findings(looks))
    for finding in findings:
        mark = "ok" if not finding.remedy else "WRONG" if finding.is_error else "note"
        sys.stdout.write(f"{mark:<6} {finding.name:<14} {finding.found}\n")
        if finding.remedy:
            sys.stdout.write(f"{'':<21} -> {finding.remedy}\n")
    wrong = [finding.name for finding in findings if finding.remedy and finding.is_error]
    sys.stdout.write(f"\n{len(wrong)} to mend: {', '.join(wrong)}\n" if wrong else "\nnothing stands in the way\n")
    return 1 if wrong else 0


def _findings(looks: list[Callable[[], Finding]]) -> Iterator[Finding]:
    for look in looks:
        try:
            yield look()
        except Misconfigured as error:
            # A setting that cannot be read stops several of the looks, and _settings has said which.
            if look is _settings:
                yield Finding("settings", error.detail.replace("\n", "; "), "correct them in the environment or .env")


def _python() -> Finding:
    version = sys.version_info[:2]
    text = ".".join(map(str, sys.version_info[:3]))
    if _OLDEST_PYTHON <= version < _FIRST_UNTRIED_PYTHON:
        return Finding("python", text)
    return Finding("python", text, "rm -rf .venv && ./zh doctor, with a Python 3.11 to 3.14 installed")


def _settings() -> Finding:
    settings = local_settings()
    if is_set("database_url") and not (is_set("admin_key") and is_set("secret_key")):
        return Finding(
            "settings",
            "ZAPHUB_DATABASE_URL is set without ZAPHUB_ADMIN_KEY and ZAPHUB_SECRET_KEY",
            "make two with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return Finding("settings", f"valid; transport {settings.transport}, log level {settings.log_level}")


def _postgres() -> Finding:
    if is_set("database_url"):
        return Finding("postgres", "yours, by ZAPHUB_DATABASE_URL")
    try:
        programs = find_postgres()
    except Misconfigured as error:
        return Finding("postgres", error.detail, _INSTALL)
    return Finding("postgres", f"{programs.major}, {programs.folder}")


def _valkey() -> Finding:
    if is_set("redis_url"):
        return Finding("valkey", "yours, by ZAPHUB_REDIS_URL")
    try:
        return Finding("valkey", str(find_valkey()))
    except Misconfigured as error:
        return Finding("valkey", error.detail, _INSTALL)


def _libmagic() -> Finding:
    if find_spec("pylibmagic") is not None:
        return Finding("libmagic", "from its wheel")
    if ctypes.util.find_library("magic") is not None:
        return Finding("libmagic", "the system's")
    return Finding("libmagic", "missing: the WhatsApp library does not load without it", _INSTALL)


def _ffmpeg() -> Finding:
    found = shutil.which("ffmpeg")
    if found is not None:
        return Finding("ffmpeg", found)
    remedy = "install it for video thumbnails and voice notes from other formats: apt-get install ffmpeg"
    return Finding("ffmpeg", "missing: videos go without a preview", remedy, is_error=False)


def _data_folder(folder: DataDir) -> Finding:
    name, root = "data folder", folder.root
    if not _is_there(root):
        parent = next(path for path in root.parents if _is_there(path))
        if not parent.is_dir():
            return Finding(name, f"{root} cannot be made, as {parent} is a file", "choose another with ZAPHUB_DATA_DIR")
        if os.access(parent, os.W_OK | os.X_OK):
            return Finding(name, f"{root}, to be made")
        return Finding(name, f"{root} cannot be made", f"choose another with ZAPHUB_DATA_DIR, or: chmod u+w {parent}")
    if not root.is_dir():
        return Finding(name, f"{root} is a file", "choose another with ZAPHUB_DATA_DIR")
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        return Finding(name, f"{root} belongs to another user", f"sudo chown -R $(id -u) {root}")
    if root.stat().st_mode & 0o077:
        return Finding(name, f"{root} can be entered by others", f"chmod 700 {root}", is_error=False)
    return Finding(name, f"{root}{', in use by a running ./zh up' if folder.is_claimed() else ''}")


def _is_there(path: Path) -> bool:
    """Whether it exists, as far as this user may know."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def _disk(folder: DataDir) -> Finding:
    place = next(path for path in (folder.root, *folder.root.parents) if _is_there(path))
    free_mib = shutil.disk_usage(place).free // 2**20
    found = f"{free_mib} MiB free"
    if free_mib >= _LEAST_FREE_MIB:
        return Finding("disk", found)
    return Finding("disk", found, f"free {_LEAST_FREE_MIB} MiB on the disk of {place}, or set ZAPHUB_DATA_DIR")


def _port() -> Finding:
    settings = local_settings()
    try:
        is_ours = is_free(settings.host, settings.port)
    except OSError as error:
        return Finding("port", f"nothing can listen on {settings.host}: {error.strerror}", "correct ZAPHUB_HOST")
    if is_ours:
        return Finding("port", f"{settings.port} on {settings.host} is free")
    found = f"{settings.port} on {settings.host} is taken"
    return Finding("port", found, "./zh up takes a free one unless ZAPHUB_PORT or --port names one", is_error=False)


def _database(data_dir: Path | None) -> Finding:
    try:
        url = joined_environment(data_dir)["ZAPHUB_DATABASE_URL"]
    except Misconfigured:
        return Finding("database", "not running; ./zh up starts it")
    from shared.db.migrate import migrations  # noqa: PLC0415 - loads asyncpg
    from shared.db.pool import AWAY, DatabaseError, connect  # noqa: PLC0415 - as above

    async def applied() -> set[str]:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S), connect(url) as connection:
            if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
                return set()
            return {row["name"] for row in await connection.fetch("SELECT name FROM schema_migrations")}

    try:
        done = asyncio.run(applied())
    except (ZapHubError, DatabaseError, *AWAY) as error:
        return Finding("database", f"does not answer: {error}", "start it, or correct ZAPHUB_DATABASE_URL")
    missing = [name for name, _ in migrations() if name not in done]
    if missing:
        return Finding("database", f"lacks {len(missing)} migrations, the first {missing[0]}", "./zh migrate")
    return Finding("database", f"answers, with all {len(done)} migrations")


def _redis(data_dir: Path | None) -> Finding:
    settings = local_settings()
    if settings.transport != "redis":
        return Finding("redis", f"not needed by transport {settings.transport}")
    try:
        url = joined_environment(data_dir).get("ZAPHUB_REDIS_URL") or settings.redis_url
    except Misconfigured:
        return Finding("redis", "not running; ./zh up starts it")
    if url is None and not is_set("database_url"):
        return Finding("redis", "not used by the ./zh up that runs here")
    if url is None:
        return Finding("redis", "ZAPHUB_DATABASE_URL is set and ZAPHUB_REDIS_URL is not", "set it, or use ./zh up")
    from redis import Redis, RedisError, ResponseError  # noqa: PLC0415 - a quarter of a second to load

    try:
        with Redis.from_url(url, socket_timeout=_ANSWER_TIMEOUT_S, decode_responses=True) as client:
            client.ping()
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "unknown")
    except ResponseError:
        # Managed servers forbid CONFIG.
        return Finding("redis", "answers, and does not say whether it evicts")
    except RedisError as error:
        return Finding("redis", f"does not answer: {error}", "start it, or correct ZAPHUB_REDIS_URL")
    if policy != "noeviction":
        return Finding(
            "redis", f"evicts ({policy})", "redis-cli CONFIG SET maxmemory-policy noeviction", is_error=False
        )
    return Finding("redis", "answers, and never evicts")
