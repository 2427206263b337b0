"""`/errors` and `/errors/{code}`: what each code means and what to do, in the language that the reader prefers."""

import re
from html import escape
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from api.catalogue import CodePage, codes
from api.docs_page import POLICY, STYLE
from api.language import Language, preferred
from shared.domain.errors import NotFound

router = APIRouter(include_in_schema=False)

_MARKED: Final = re.compile(r"`([^`]+)`|\[([^\]]+)\]\([^)]+\)")
_WORDS: Final = {
    Language.ENGLISH: {
        "all": "Errors of the ZapHub API",
        "in message": "in a message's <code>error</code>",
        "status": "HTTP status",
        "retryable": "The same may succeed later without anything being changed",
        "final": "The same fails again until something changes",
    },
    Language.PORTUGUESE: {
        "all": "Erros da API do ZapHub",
        "in message": "no <code>error</code> de uma mensagem",
        "status": "Status HTTP",
        "retryable": "O mesmo pode dar certo mais tarde sem que nada mude",
        "final": "O mesmo falha de novo até que algo mude",
    },
}


@router.get("/errors")
async def show_errors(request: Request) -> HTMLResponse:
    """Every code with its title."""
    language = preferred(request.scope)
    rows = "".join(
        f'<tr><td><a href="errors/{page.code}"><code>{page.code}</code></a>'
        f"<td>{_status(page, language)}<td>{escape(page.title[language])}"
        for page in codes().values()
    )
    title = _WORDS[language]["all"]
    return _page(language, title, f"<h1>{title}</h1><table>{rows}</table>")


@router.get("/errors/{code}")
async def show_error(request: Request, code: str) -> HTMLResponse:
    """The page that a problem's `type` leads to. Raises NotFound for a code that there is not."""
    page = codes().get(code)
    if page is None:
        raise NotFound("There is no such error code; docs/errors.md has all of them.")
    language = preferred(request.scope)
    hint = "" if page.retryable is None else f"<p>{_WORDS[language]['retryable' if page.retryable else 'final']}.</p>"
    return _page(
        language,
        page.code,
        f"<h1><code>{page.code}</code></h1><h2>{escape(page.title[language])}</h2><p>{_status(page, language)}</p>"
        f'<p>{_marked(page.meaning[language])}</p>{hint}<p><a href="../errors">{_WORDS[language]["all"]}</a></p>',
    )


def _status(page: CodePage, language: Language) -> str:
    words = _WORDS[language]
    return words["in message"] if page.status is None else f"{words['status']} {page.status}"


def _marked(text: str) -> str:
    """Markdown's code as code, and its links as their words: what they lead to is in the repository."""
    parts, end = [], 0
    for mark in _MARKED.finditer(text):
        parts += [escape(text[end : mark.start()]), f"<code>{escape(mark[1])}</code>" if mark[1] else escape(mark[2])]
        end = mark.end()
    return "".join(parts) + escape(text[end:])


def _page(language: Language, title: str, body: str) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="{language}"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"{body}</html>",
        headers={"Content-Security-Policy": POLICY, "Content-Language": language.value, "Vary": "Accept-Language"},
    )
