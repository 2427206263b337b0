"""Every setting: its name, unit, default and bounds. The only reader of the environment.

Variables have the prefix `ZAPHUB_`; a `.env` file in the working directory is read too, and what both leave unset comes
from the secret that ZAPHUB_SECRETS_ARN names. A wrong value stops the start with the variable's name (`load` raises
Misconfigured). `.env.example` lists all of them.
"""

import ipaddress
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from shared import secrets
from shared.domain.errors import Misconfigured
from shared.domain.jobs import QueueName

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _split(value: Any) -> Any:  # noqa: ANN401 - a validator sees whatever was given
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _concurrency(value: Any) -> Any:  # noqa: ANN401 - as above
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in _split(value)]
    if any(not number.strip().isdigit() for _, _, number in pairs):
        raise ValueError("write it as message:send=5,webhook:delivery=3")
    return {name.strip(): int(number) for name, _, number in pairs}


def _doors(value: Any) -> Any:  # noqa: ANN401 - as above
    return [] if value == "none" else _split(value)


def _url(schemes: tuple[str, ...]) -> AfterValidator:
    def check(value: str) -> str:
        if urlsplit(value).scheme not in schemes:
            raise ValueError(f"must start with {' or '.join(f'{scheme}:' for scheme in schemes)}")
        return value

    return AfterValidator(check)


def _media_store(value: str) -> str:
    parts = urlsplit(value)
    if value != "files" and (parts.scheme != "s3" or not parts.hostname or parts.query or parts.fragment):
        raise ValueError("must be files, or s3://bucket/prefix")
    return value


def _secrets_arn(value: str) -> str:
    if not secrets.ARN.match(value):
        raise ValueError("must be the ARN of a secret, arn:aws:secretsmanager:…:secret:…")
    return value


class CompatDoor(StrEnum):
    """A door for clients of another gateway (docs/migration.md)."""

    EVOLUTION = "evolution"
    CLOUD = "cloud"


Csv = Annotated[list[str], NoDecode, BeforeValidator(_split)]
Networks = Annotated[list[Network], NoDecode, BeforeValidator(_split)]
Doors = Annotated[list[CompatDoor], NoDecode, BeforeValidator(_doors)]
Concurrency = Annotated[dict[QueueName, Annotated[int, Field(ge=1, le=1000)]], NoDecode, BeforeValidator(_concurrency)]
DatabaseUrl = Annotated[str, _url(("postgresql", "postgres"))]
RedisUrl = Annotated[str, _url(("redis", "rediss", "unix"))]
MediaStoreUrl = Annotated[str, AfterValidator(_media_store)]
HttpUrl = Annotated[str, _url(("http", "https"))]
SecretsArn = Annotated[str, AfterValidator(_secrets_arn)]


class _SecretsSource(EnvSettingsSource):
    """What the environment leaves unset, from the secret that it names; no call of AWS when it names none."""

    def __call__(self) -> dict[str, Any]:
        arn = self.current_state.get("secrets_arn")
        # A wrong one is reported with all else that is wrong.
        if not isinstance(arn, str) or not secrets.ARN.match(arn):
            return {}
        self.env_vars = {name.lower(): value for name, value in secrets.fetch(arn).items() if value}
        return super().__call__()


class Settings(BaseSettings):
    """Frozen and validated; secrets have no default and never print."""

    model_config = SettingsConfigDict(
        env_prefix="ZAPHUB_",
        env_file=".env",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - files of secrets are nobody's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The earlier ones win: arguments, environment, `.env`, the secret."""
        return init_settings, env_settings, dotenv_settings, _SecretsSource(settings_cls)

    database_url: DatabaseUrl = Field(description="Postgres; unset: an embedded one under DATA_DIR", repr=False)
    redis_url: RedisUrl | None = Field(
        None, description="Redis or Valkey, for the bell; unset: an embedded one", repr=False
    )
    transport: Literal["redis", "sqs", "memory"] = Field("redis", description="what carries the bell")
    admin_key: SecretStr | None = Field(
        None, min_length=16, description="the bootstrap API key, at least 16 characters"
    )
    secret_key: SecretStr = Field(min_length=16, description="encrypts secrets at rest, at least 16 characters")
    host_token: SecretStr | None = Field(None, min_length=16, description="workers and API to session hosts")
    data_dir: Path = Field(Path(".zaphub"), description="embedded servers, keys, journals, logs")
    host: str = Field("127.0.0.1", description="the API listens here")
    port: int = Field(8000, ge=0, le=65535, description="the API's port")
    public_url: HttpUrl | None = Field(
        None, description="how users reach the API, when a proxy stands before it; https makes browsers keep to it"
    )
    trusted_proxies: Networks = Field([], description="CIDRs whose X-Forwarded-For is believed")
    cors_origins: Csv = Field([], description="origins whose browsers may call the API")
    compat: Doors = Field(
        [CompatDoor.EVOLUTION, CompatDoor.CLOUD], description="doors for clients of other gateways; none: no door"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least severe line to write"
    )
    log_format: Literal["json", "console"] = Field("json", description="json for machines, console for people")
    metrics_open: bool = Field(default=True, description="whether /metrics answers without a key")
    api_rate_per_minute: int = Field(
        60_000,
        ge=0,
        le=100_000_000,
        description="requests per minute, API key and API process, 0: no limit; a batch of N messages counts N",
    )
    api_auth_failures_per_minute: int = Field(
        120, ge=0, le=1_000_000, description="wrong keys per minute, client address and API process, 0: no limit"
    )
    api_max_in_flight: int = Field(
        1000, ge=1, le=100_000, description="requests that one API process works on at once; more are answered 503"
    )
    api_header_timeout_s: float = Field(10, ge=1, le=300, description="for the head of a request to arrive, seconds")
    api_body_timeout_s: float = Field(
        30, ge=1, le=3600, description="for a request's body, seconds, and one more for each 16 KiB that arrived"
    )

    db_pool_size: int = Field(10, ge=2, le=20, description="connections per process to Postgres")
    db_transaction_pooler: bool = Field(
        default=False, description="true behind RDS Proxy or PgBouncer in transaction mode"
    )
    concurrency: Concurrency = Field({}, description="jobs at once per worker, per queue: message:send=5,…")
    shutdown_grace_s: float = Field(10, ge=0, le=600, description="how long a stopping worker lets running jobs finish")

    send_rate_per_minute: int = Field(
        80, ge=0, le=100_000, description="per connection, 0: no limit; a connection's config may differ"
    )
    send_ttl_seconds: int = Field(86_400, ge=0, le=31_536_000, description="when an unsent message expires, 0: never")
    send_unknown_grace_s: float = Field(30, ge=0, le=3600, description="how long a message in doubt holds its chat")
    send_timeout_s: float = Field(
        90, ge=1, le=600, description="a worker's wait for the host's answer to a send; whatsmeow gives up after 75 s"
    )

    webhook_timeout_s: float = Field(30, ge=1, le=300, description="for one whole webhook exchange")
    webhook_allow_networks: Networks = Field(
        [], description="CIDRs that webhooks and media fetches may reach in spite of the SSRF rule"
    )

    media_store: MediaStoreUrl = Field(
        "files", description="where media lie: files (in DATA_DIR/media), or s3://bucket/prefix"
    )
    media_endpoint: HttpUrl | None = Field(None, description="of an S3 that is not Amazon's: MinIO, R2, …")
    media_region: str | None = Field(None, description="the bucket's region; unset: AWS_REGION")
    media_max_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, le=2 * 1024**3, description="of one file, uploaded, fetched or received"
    )
    media_fetch_timeout_s: float = Field(60, ge=1, le=600, description="for fetching the file of a message's url")

    cleanup_cron: str = Field("0 3 * * *", description="when maintenance:cleanup runs, five cron fields, UTC")
    retention_completed_jobs_s: int = Field(
        3600, ge=60, description="completed jobs, seconds (the newest 100 of a queue stay)"
    )
    retention_failed_jobs_s: int = Field(7 * 86_400, ge=60, description="failed jobs, seconds")
    retention_messages_days: int = Field(90, ge=1, description="messages and their history, days")
    retention_events_days: int = Field(30, ge=1, description="events, days")
    retention_deliveries_days: int = Field(30, ge=1, description="webhook deliveries and attempts, days")
    retention_media_days: int = Field(30, ge=1, le=36_500, description="files of messages, days")

    host_sessions: int = Field(25, ge=1, le=200, description="sessions per host child process")
    host_children: int = Field(1, ge=1, le=100, description="child processes of one session host")
    host_bind: str = Field("127.0.0.1", description="the session host's command API listens here")
    host_port: int = Field(
        0, ge=0, le=65535, description="of a host's first child, the next one has the next port; 0: free ports"
    )
    host_advertise: str | None = Field(
        None,
        min_length=1,
        max_length=253,
        description="the address or name by which workers reach this host; auto: this machine's own; unset: HOST_BIND",
    )
    host_lease_s: float = Field(10, ge=2, le=300, description="a session's lease, renewed every third of it")
    host_connects_at_once: int = Field(
        10, ge=1, le=200, description="sessions of a child that log in, start pairing or take in their first history"
    )
    host_moves_at_once: int = Field(
        2, ge=0, le=100, description="sessions a child hands to a host with fewer at one time, 0: none"
    )
    host_store_connections: int = Field(
        150, ge=0, le=10_000, description="of a child's device store to Postgres; beyond it a new child, 0: no bound"
    )
    fake_whatsapp_url: HttpUrl | None = Field(
        None, description="control API of a fake WhatsApp server; for tests and the demo"
    )

    sqs_queue_urls: dict[QueueName, str] = Field({}, description="JSON object of queue name to SQS URL")
    secrets_arn: SecretsArn | None = Field(
        None, description="a secret of AWS Secrets Manager: JSON of variable to value, for those that are unset"
    )

    run_dir: Path | None = Field(None, description="set by the supervisor: where parts announce that they are ready")
    part: str = Field("", description="set by the supervisor: this part's name")


class Ecs(BaseSettings):
    """What Amazon ECS tells a container; apart from Settings, as the name is not ours."""

    model_config = SettingsConfigDict(env_prefix="", frozen=True, extra="ignore", env_ignore_empty=True)

    ecs_container_metadata_uri_v4: HttpUrl | None = Field(None, description="where a task asks for its own address")


class AwsLambda(BaseSettings):
    """What AWS tells a function; apart from Settings, as the name is not ours and it is asked for at import."""

    model_config = SettingsConfigDict(env_prefix="", frozen=True, extra="ignore", env_ignore_empty=True)

    aws_lambda_function_name: str | None = Field(None, description="set in a Lambda container alone")


class Failpoint(BaseSettings):
    """Where a test wants the process to end, once; apart from Settings, so that asking needs no other variable."""

    model_config = SettingsConfigDict(env_prefix="ZAPHUB_", frozen=True, extra="ignore", env_ignore_empty=True)

    failpoint: str = Field("", description="tests only: the name of the point that ends the process")
    failpoint_dir: Path | None = Field(None, description="tests only: markers of failpoints already hit")


def explain(error: ValidationError) -> str:
    """One line per wrong variable: its name and what is wrong, never its value."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = "_".join(str(part) for part in problem["loc"][:1]).upper()
        message = "is not set" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
        lines.append(f"ZAPHUB_{name}: {message}")
    return "\n".join(lines)


@cache
def load() -> Settings:
    """Read the environment once. Raises Misconfigured naming each wrong variable; the next call tries again.

    With ZAPHUB_SECRETS_ARN it calls AWS, blocks for 14 s at most and may raise Unavailable.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise Misconfigured(explain(error)) from None
    except SettingsError as error:
        # Of one that should hold JSON. It names the field; its cause would quote the value.
        raise Misconfigured(f"{error}.") from None


@cache
def load_lambda() -> AwsLambda:
    """Read the environment once; outside Lambda nothing is set."""
    return AwsLambda()


@cache
def load_ecs() -> Ecs:
    """Read the environment once; outside ECS nothing is set. Raises Misconfigured for what is no URL."""
    try:
        return Ecs()
    except ValidationError as error:
        raise Misconfigured("ECS_CONTAINER_METADATA_URI_V4 is no http URL.") from error


@cache
def load_failpoint() -> Failpoint:
    """Read the environment once; unset means nowhere."""
    return Failpoint()
