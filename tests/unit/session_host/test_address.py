"""Where a host's children listen and what workers are told."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from pydantic import SecretStr

from session_host import address
from shared.domain.errors import Misconfigured
from shared.settings import Ecs, Settings

NOT_ON_ECS = Ecs(ecs_container_metadata_uri_v4=None)


def settings(**given: object) -> Settings:
    known = {"database_url": "postgresql://127.0.0.1/zaphub", "secret_key": SecretStr("a-key-for-this-test")}
    return Settings.model_validate({**known, **given})


@pytest.fixture
async def metadata() -> AsyncIterator[tuple[str, dict[str, object]]]:
    """What ECS's metadata address answers, and the answer, to be filled."""
    told: dict[str, object] = {}

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(told)

    app = web.Application()
    app.add_routes([web.get("/v4/abc", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v4/abc", told
    await runner.cleanup()


def test_children_listen_one_after_another_or_where_there_is_room() -> None:
    assert [address.port_of(settings(host_port=7400), number) for number in (1, 2, 4)] == [7400, 7401, 7403]
    assert address.port_of(settings(), 3) == 0
    with pytest.raises(Misconfigured, match="ZAPHUB_HOST_PORT"):
        address.port_of(settings(host_port=65_535), 2)


@pytest.mark.parametrize(
    ("given", "reached"),
    [
        ({}, "127.0.0.1"),
        ({"host_bind": "10.1.2.3"}, "10.1.2.3"),
        ({"host_bind": "0.0.0.0", "host_advertise": "hosts.example"}, "hosts.example"),
        ({"host_bind": "0.0.0.0"}, "127.0.0.1"),
        ({"host_advertise": "auto"}, "127.0.0.1"),
        ({"host_bind": "0.0.0.0", "database_url": "postgresql:///zaphub?host=/run"}, "127.0.0.1"),
    ],
)
async def test_workers_are_told_what_was_named_or_the_address_on_the_way_to_postgres(
    given: dict[str, object], reached: str
) -> None:
    assert await address.advertised(settings(**given), NOT_ON_ECS) == reached


async def test_on_ecs_auto_is_the_tasks_own_address(metadata: tuple[str, dict[str, object]]) -> None:
    url, told = metadata
    told["Networks"] = [{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.2.106"]}]

    found = await address.advertised(settings(host_bind="0.0.0.0"), Ecs(ecs_container_metadata_uri_v4=url))

    assert found == "10.0.2.106"


async def test_an_answer_of_ecs_without_an_address_names_the_setting(metadata: tuple[str, dict[str, object]]) -> None:
    url, _ = metadata

    with pytest.raises(Misconfigured, match="ZAPHUB_HOST_ADVERTISE"):
        await address.advertised(settings(host_advertise="auto"), Ecs(ecs_container_metadata_uri_v4=url))


def test_a_port_that_is_taken_is_said_with_its_number() -> None:
    with address.listener("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(Misconfigured, match=str(port)):
            address.listener("127.0.0.1", port)


def test_a_url_brackets_ipv6() -> None:
    assert address.url_of("::1", 7400) == "http://[::1]:7400"
