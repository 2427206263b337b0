"""What `./zh up` decides before it starts a process: the data folder, secrets, servers, ports and the environment."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import SecretStr

from local import sqs_address
from local.data_dir import DataDir
from local.embedded import postgres, valkey
from local.embedded.serving import EmbeddedServer
from local.environment import for_children, is_set, local_settings, settings_with
from local.ports import free_port, is_free
from shared.domain.errors import Misconfigured
from shared.settings import Settings

LOOPBACK: Final = "127.0.0.1"
_DEFAULT_PORT: Final = 8000
# Stands for the URL that is known only once the embedded server is prepared.
_EMBEDDED_DATABASE: Final = "postgresql://embedded"


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line asked for; None is "as the settings say"."""

    host: str | None = None
    port: int | None = None
    data_dir: Path | None = None
    ready_file: Path | None = None
    workers: int = 1
    with_fake_whatsapp: bool = False
    with_sqs: bool = False
    with_lambda: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything decided before the first process starts."""

    settings: Settings
    data_dir: DataDir
    environment: dict[str, str]
    host: str
    port: int
    servers: dict[str, EmbeddedServer]
    fake_whatsapp_port: int | None
    sqs_port: int | None
    options: UpOptions

    @property
    def api_url(self) -> str:
        """Where this machine reaches the API, also when it listens on every address."""
        host = LOOPBACK if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@contextmanager
def planned(options: UpOptions) -> Iterator[Plan]:
    """Hold the data folder and its sockets for the length of the block. Raises Misconfigured for what is in the way."""
    has_database, has_redis = is_set("database_url"), is_set("redis_url")
    if has_database and not (is_set("admin_key") and is_set("secret_key")):
        msg = (
            "ZAPHUB_DATABASE_URL is set, so ZAPHUB_ADMIN_KEY and ZAPHUB_SECRET_KEY must be given too: the secrets in "
            "that database outlive this machine's data folder. Make two with: "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
        raise Misconfigured(msg)
    if options.ready_file is not None:
        if not os.access(options.ready_file.resolve().parent, os.W_OK):
            raise Misconfigured(f"--ready-file {options.ready_file} cannot be written: make its folder first.")
        if options.ready_file.is_dir():
            raise Misconfigured(f"--ready-file {options.ready_file} is a folder.")
    # Read once for the data folder, where the secrets are that the second reading needs.
    data_dir = DataDir((options.data_dir or local_settings().data_dir).resolve())
    with ExitStack() as held:
        held.enter_context(data_dir.claimed())
        # What an earlier start said is not so any more, and who waits for the file waits for this one.
        for said in filter(None, (data_dir.ready_file, options.ready_file)):
            said.unlink(missing_ok=True)
        sockets = held.enter_context(data_dir.sockets())
        settings = settings_with({"database_url": _EMBEDDED_DATABASE, **data_dir.secrets()})
        servers: dict[str, EmbeddedServer] = {}
        database_url, redis_url = settings.database_url, settings.redis_url
        if not has_database:
            # Its own folder, as it may belong to the account that Postgres runs as.
            private = sockets / "postgres"
            private.mkdir(mode=0o700)
            server = postgres.prepare(data_dir.postgres, sockets=private)
            servers["postgres"], database_url = server, server.url()
        if not has_redis and not options.with_sqs:
            bell = valkey.prepare(data_dir.valkey, sockets=sockets)
            servers["valkey"], redis_url = bell, bell.url
        host = options.host or settings.host
        port = _api_port(host, asked=options.port, settings=settings)
        fake_port = free_port(LOOPBACK) if options.with_fake_whatsapp else None
        sqs_port = free_port(LOOPBACK) if options.with_sqs and not settings.sqs_queue_urls else None
        environment = for_children(
            {
                "database_url": database_url,
                "redis_url": redis_url,
                "data_dir": str(data_dir.root),
                "host": host,
                "port": str(port),
                "admin_key": _revealed(settings, "admin_key"),
                "secret_key": _revealed(settings, "secret_key"),
                "host_token": _revealed(settings, "host_token"),
                "fake_whatsapp_url": f"http://{LOOPBACK}:{fake_port}" if fake_port else settings.fake_whatsapp_url,
                "run_dir": str(data_dir.run),
                # People read it: not JSON, unless they asked for that.
                "log_format": "console" if sys.stdout.isatty() and not is_set("log_format") else settings.log_format,
                "transport": "sqs" if options.with_sqs else settings.transport,
                "sqs_queue_urls": json.dumps(sqs_address.urls(sqs_port) if sqs_port else settings.sqs_queue_urls),
            }
        )
        if sqs_port:
            environment |= sqs_address.CREDENTIALS
        yield Plan(
            settings=settings,
            data_dir=data_dir,
            environment=environment,
            host=host,
            port=port,
            servers=servers,
            fake_whatsapp_port=fake_port,
            sqs_port=sqs_port,
            options=options,
        )


def _revealed(settings: Settings, name: Literal["admin_key", "secret_key", "host_token"]) -> str | None:
    secret: SecretStr | None = getattr(settings, name)
    return None if secret is None else secret.get_secret_value()


def _api_port(host: str, *, asked: int | None, settings: Settings) -> int:
    """Return the port asked for; without one the default, or a free one when that is taken."""
    if asked is None and is_set("port"):
        asked = settings.port
    try:
        if asked and not is_free(host, asked):
            msg = f"Port {asked} on {host} is taken. Choose another with --port, or 0 for any free one."
            raise Misconfigured(msg)
        if asked:
            return asked
        return _DEFAULT_PORT if asked is None and is_free(host, _DEFAULT_PORT) else free_port(host)
    except OSError as error:
        raise Misconfigured(f"The API cannot listen on {host}: {error}. Correct ZAPHUB_HOST or --host.") from error
