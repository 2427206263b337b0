"""Every word that a client may read is there in both languages, and what is there is still said somewhere."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_core._pydantic_core import list_all_errors

from api.catalogue import codes, messages, title_of, translated
from api.language import Language

_ROOT = Path(__file__).parents[3]
_PORTUGUESE = Language.PORTUGUESE
# What these say reaches a log, a shell or a Python caller, never an HTTP client.
_NOT_FOR_CLIENTS = (
    *("shared/settings.py", "shared/queues/seed.py", "shared/queues/seed_messages.py", "shared/queues/brokers.py"),
    *("shared/queues/admin.py", "shared/queues/worker.py", "shared/queues/redis_bell.py", "shared/domain/jobs.py"),
    *("shared/db/sql.py", "shared/db/webhook_deliveries.py"),
)
# Raised and caught in the same module.
_INTERNAL = {"no prefix", "not base64", "{} are never written"}
# Who takes a message, and as which of its arguments.
_SPEAKERS = {
    **dict.fromkeys(("InvalidInput", "NotFound", "Conflict", "HostUnreachable", "HostNotReached", "Unavailable"), 0),
    **dict.fromkeys(("ValueError", "_malformed", "_refused", "unauthorized"), 0),
    "_away": 1,
    "Problem": 2,
}
# Pydantic's kinds of error that no value in JSON, and no model of ours, can give.
_IMPOSSIBLE = re.compile(
    r"dataclass|argument|multiple_argument|needs_python|callable|is_instance|is_subclass|frozen|get_attribute|iteration|iterable|recursion|date_|time_"
    r"|bytes|decimal|complex|url|set_|tuple|named_tuple|generator|default_factory|missing_|mapping|unexpected|keyword"
    r"|positional|no_such|assertion|json_|function|ordered_dict|counter|deque|ellipsis|fraction|value_error"
)
_JSON_ERRORS = (
    *("Expecting value", "Expecting property name enclosed in double quotes", "Expecting ':' delimiter"),
    *("Expecting ',' delimiter", "Extra data", "Unterminated string starting at", "Invalid control character at"),
    *("Invalid \\escape", "Invalid \\uXXXX escape"),
)


def _said() -> Iterator[tuple[str, str]]:
    """Each message in the code, with its file: `{}` stands for what is put in."""
    for path in [*(_ROOT / "api").rglob("*.py"), *(_ROOT / "shared").rglob("*.py")]:
        where = path.relative_to(_ROOT).as_posix()
        if where in _NOT_FOR_CLIENTS or where.startswith("api/compat/"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        for call in ast.walk(tree):
            if isinstance(call, ast.Call):
                for text in _messages_of(call, constants):
                    yield where, text


def _messages_of(call: ast.Call, constants: dict[str, ast.expr]) -> Iterator[str]:
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if name not in _SPEAKERS:
        return
    place = 1 if name == "unauthorized" else _SPEAKERS[name]
    given = [*call.args[place : place + 1], *(one.value for one in call.keywords if one.arg == "detail")]
    for argument in given:
        for choice in (argument.body, argument.orelse) if isinstance(argument, ast.IfExp) else (argument,):
            text = _text(constants.get(choice.id, choice) if isinstance(choice, ast.Name) else choice)
            if text is not None and text.strip("{} .:"):
                yield text


def _text(node: ast.expr) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
        case _:
            return None


def test_every_message_of_the_code_is_in_the_catalogue() -> None:
    missing = {text: where for where, text in _said() if text not in messages() and text not in _INTERNAL}

    assert not missing, f"add these to api/locale/messages.json: {missing}"
    assert len(list(_said())) > 80, "it finds the messages"


def test_every_message_of_the_json_parser_and_of_pydantic_is_in_the_catalogue() -> None:
    possible = {
        re.sub(r"\{\w+\}", "{}", error["message_template_python"])
        for error in list_all_errors()
        if not _IMPOSSIBLE.match(error["type"])
    }

    assert not (possible | set(_JSON_ERRORS)) - messages().keys()


def test_each_translation_is_another_text_and_puts_in_no_more_than_there_is() -> None:
    for english, portuguese in messages().items():
        assert portuguese.strip(), english
        assert portuguese != english
        if "{}" in english:
            values = [f"«{number}»" for number in range(english.count("{}"))]
            portuguese.format(*values)  # raises for a placeholder without a value
        else:
            assert "{}" not in portuguese, english


@pytest.mark.parametrize(
    ("english", "portuguese"),
    [
        ("There is no such message.", "Não existe essa mensagem."),
        ("The API key lacks the scope messages:read. Use another key, or make one that has it.", "messages:read"),
        ("Must not be blank.", "Não pode estar em branco."),
        ("String should have at most 100 characters.", "Deve ter no máximo 100 caractere(s)."),
        ("Input should be a valid UUID, invalid length: found 3.", "Deve ser um UUID"),
        (
            "The body cannot be read as JSON: Expecting value at line 1, column 2.",
            "O corpo não pode ser lido como JSON: falta um valor na linha 1, coluna 2.",
        ),
        (
            "The connection is closed; POST /connections/{id}/start opens it again.",
            "A conexão está closed; POST /connections/{id}/start a abre de novo.",
        ),
    ],
)
def test_what_is_said_is_found_in_portuguese(english: str, portuguese: str) -> None:
    assert portuguese in translated(english, _PORTUGUESE)
    assert translated(english, Language.ENGLISH) == english


@pytest.mark.parametrize(
    "text", ["", ".", "{}", "{0}", "something that nobody says", "x" * 10_000, "The connection is "]
)
def test_what_is_not_in_the_catalogue_stays_as_it_is(text: str) -> None:
    assert translated(text, _PORTUGUESE) == text


def test_the_page_and_the_catalogue_say_the_same_of_the_same_codes() -> None:
    page = (_ROOT / "docs/errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\w+) \| (.*) \|$", page, flags=re.MULTILINE)

    assert [
        (one.code, str(one.status or ("yes" if one.retryable else "no")), one.meaning[Language.ENGLISH])
        for one in codes().values()
    ] == rows


def test_every_code_has_a_title_and_a_meaning_in_both_languages() -> None:
    for code in codes():
        texts = [*codes()[code].title.values(), *codes()[code].meaning.values()]
        assert len(set(texts)) == len(texts) == 2 * len(Language), code
        assert all(texts), code
    assert title_of("NOT_FOUND", _PORTUGUESE) == "Não existe esse objeto"
    assert title_of("SOMETHING_NEW", _PORTUGUESE) == "Something new"
