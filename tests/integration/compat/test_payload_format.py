"""`payload_format` of an endpoint: created, shown, changed, and what a wrong one changes."""

from typing import Any

import httpx
import pytest

from tests.integration.compat.conftest import Ledger

HOOK = {"url": "https://192.0.2.7/hook", "events": ["message.*"]}


async def test_it_is_zaphubs_own_unless_another_is_asked_for(api: httpx.AsyncClient, shop: dict[str, Any]) -> None:
    plain = (await api.post("/webhooks", json=HOOK)).json()
    theirs = (await api.post("/webhooks", json={**HOOK, "payload_format": "evolution"})).json()
    await api.patch(f"/connections/{shop['id']}", json={"webhook_url": "https://192.0.2.8/own"})
    listed = {one["url"]: one["payload_format"] for one in (await api.get("/webhooks")).json()["data"]}

    assert (plain["payload_format"], theirs["payload_format"]) == ("zaphub", "evolution")
    assert listed["https://192.0.2.8/own"] == "zaphub"


async def test_it_may_be_changed_and_nothing_else_changes_with_it(api: httpx.AsyncClient) -> None:
    made = (await api.post("/webhooks", json={**HOOK, "order": "chat"})).json()

    changed = await api.patch(f"/webhooks/{made['id']}", json={"payload_format": "cloud_api"})
    again = await api.patch(f"/webhooks/{made['id']}", json={"events": ["session.*"]})

    assert (changed.status_code, changed.json()["payload_format"]) == (200, "cloud_api")
    assert (again.json()["payload_format"], again.json()["order"]) == ("cloud_api", "chat")
    shown = (await api.get(f"/webhooks/{made['id']}")).json()
    assert shown["payload_format"] == "cloud_api"


@pytest.mark.parametrize("wrong", ["waha", None, 1, ""])
async def test_a_wrong_one_is_refused_and_changes_nothing(api: httpx.AsyncClient, ledger: Ledger, wrong: Any) -> None:
    made = (await api.post("/webhooks", json=HOOK)).json()
    before = await ledger.rows()

    created = await api.post("/webhooks", json={**HOOK, "payload_format": wrong})
    patched = await api.patch(f"/webhooks/{made['id']}", json={"payload_format": wrong})

    assert (created.status_code, patched.status_code) == (422, 422)
    assert (await api.get(f"/webhooks/{made['id']}")).json()["payload_format"] == "zaphub"
    assert await ledger.rows() == before
