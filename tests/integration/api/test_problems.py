"""What a client reads when something is wrong: in its language, with a link to a page that it may open."""

import re
from typing import Any

import httpx
import pytest

from api.catalogue import codes
from shared.settings import Settings
from tests.integration.api.conftest import running

_PT = {"Accept-Language": "pt-BR,pt;q=0.9,en;q=0.8"}


async def test_a_problem_speaks_the_client_s_language(api: httpx.AsyncClient) -> None:
    english = await api.get("/nowhere")
    portuguese = await api.get("/nowhere", headers=_PT)

    assert (english.headers["content-language"], portuguese.headers["content-language"]) == ("en", "pt")
    assert english.headers["vary"] == portuguese.headers["vary"] == "Accept-Language"
    assert portuguese.json()["title"] == "Não existe esse objeto"
    assert portuguese.json()["detail"].startswith("Não existe esse caminho.")
    assert {**english.json(), "title": "", "detail": "", "request_id": ""} == {
        **portuguese.json(),
        "title": "",
        "detail": "",
        "request_id": "",
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/connections?limit=0", None, 422),
        ("GET", "/connections?cursor=x", None, 422),
        ("GET", "/connections?status=x", None, 422),
        ("GET", "/connections/x", None, 422),
        ("POST", "/connections", b"{", 400),
        ("POST", "/connections", b"{}", 422),
        ("POST", "/connections", b'{"label": "", "x": 1, "metadata": [], "webhook_url": 1}', 422),
        ("POST", "/connections", b'{"label": "a", "webhook_url": "http://127.0.0.1/"}', 422),
        ("POST", "/connections", b'{"label": "a", "pairing": {"method": "code"}}', 422),
        ("POST", "/connections/{id}/send", b'{"to": "1", "type": "text", "payload": {"text": "a"}}', 422),
        ("POST", "/connections/{id}/send", b'{"to": "5511987654321", "type": "x", "payload": {}}', 422),
        ("POST", "/connections/{id}/send", b'{"to": "5511987654321"}', 422),
        ("POST", "/connections/{id}/pair-code", b'{"phone": "5511987654321"}', 409),
        ("POST", "/messages/cancel", b'{"filter": {}}', 422),
        ("PATCH", "/connections/{id}", b'{"label": null}', 422),
        ("POST", "/api-keys", b'{"name": "a", "scopes": ["root"], "expires_at": 1}', 422),
        ("PUT", "/connections", None, 405),
        ("GET", "/events?after=x", None, 422),
    ],
)
async def test_every_sentence_of_it_is_translated(
    api: httpx.AsyncClient, connection: dict[str, Any], method: str, path: str, body: bytes | None, status: int
) -> None:
    url = path.replace("{id}", connection["id"])
    headers = {"Content-Type": "application/json"}

    english = await api.request(method, url, content=body, headers=headers)
    portuguese = await api.request(method, url, content=body, headers={**headers, **_PT})

    assert english.status_code == portuguese.status_code == status, english.text
    assert _sentences(english).keys() == _sentences(portuguese).keys()
    for where, text in _sentences(english).items():
        assert _sentences(portuguese)[where] != text, where


def _sentences(answer: httpx.Response) -> dict[str, str]:
    problem = answer.json()
    errors = {f"{one['pointer']} {place}": one["detail"] for place, one in enumerate(problem.get("errors", []))}
    return {"title": problem["title"], "detail": problem["detail"], **errors}


async def test_what_is_wrong_with_a_message_of_a_batch_is_translated(
    api: httpx.AsyncClient, connection: dict[str, Any]
) -> None:
    answer = await api.post(f"/connections/{connection['id']}/send/batch", json={"messages": [{}]}, headers=_PT)

    error = answer.json()["results"][0]["error"]
    assert error["errors"][0]["detail"].startswith("Isto é obrigatório")
    assert answer.headers["content-language"] == "pt"


async def test_the_type_leads_to_a_page_that_is_open_to_everybody(settings: Settings) -> None:
    async with running(settings, key=None) as api:
        problem = (await api.get("/connections")).json()
        page = await api.get(problem["type"])
        portuguese = await api.get(problem["type"], headers=_PT)
        unknown = await api.get("/errors/NO_SUCH_CODE")

    assert problem["type"] == "/errors/UNAUTHORIZED"
    assert "<h1><code>UNAUTHORIZED</code></h1>" in page.text
    assert 'lang="pt"' in portuguese.text
    assert "A chave de API falta ou está errada" in portuguese.text
    assert unknown.status_code == 404


async def test_the_type_is_a_whole_link_where_the_public_url_is_known(settings: Settings) -> None:
    chosen = settings.model_copy(update={"public_url": "https://api.example.com/zaphub/"})
    async with running(chosen) as api:
        problem = (await api.get("/nowhere")).json()

    assert problem["type"] == "https://api.example.com/zaphub/errors/NOT_FOUND"


async def test_each_code_has_its_page_and_all_are_listed(settings: Settings) -> None:
    async with running(settings, key=None) as api:
        listed = (await api.get("/errors")).text
        pages = {code: (await api.get(f"/errors/{code}")) for code in codes()}

    assert re.findall(r'href="errors/([A-Z_]+)"', listed) == list(codes())
    for code, page in pages.items():
        assert page.status_code == 200
        assert "<script" not in page.text
        assert "`" not in page.text, f"{code}: unrendered mark"
        assert "script-src" not in page.headers["content-security-policy"]


async def test_a_code_in_a_path_is_never_repeated_in_the_page(api: httpx.AsyncClient) -> None:
    answer = await api.get("/errors/%3Cscript%3Ealert(1)%3C%2Fscript%3E")

    assert answer.status_code == 404
    assert "script>" not in answer.text
