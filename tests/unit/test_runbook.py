"""What the runbook and the alert rules name is there: calls, metrics, settings, sections."""

import re
from pathlib import Path

import yaml

from api.app import create_app
from shared.settings import Settings

_DOCS = Path(__file__).parents[2] / "docs"
_CALL = re.compile(r"(?:zh|curl)\b([^|#`\n]*?)\"?\$ZH(/[^\s\"`|)?]*)")
_METRIC = re.compile(r"^\| `(zaphub_[a-z_]+)", re.MULTILINE)


def _text(name: str) -> str:
    return (_DOCS / name).read_text()


def _sections(name: str) -> set[str]:
    titles = re.findall(r"^## (.+)$", _text(name), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def _method(options: str, rest_of_line: str) -> str:
    if named := re.search(r"-X ([A-Z]+)", options):
        return named[1]
    return "POST" if re.match(r"\"?\s+-d ", rest_of_line) else "GET"


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(
        "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[^}]+\})", path))
    )


def test_every_call_of_the_runbook_is_one() -> None:
    routes = [
        (_pattern(path), {method.upper() for method in calls})
        for path, calls in create_app().openapi()["paths"].items()
    ]
    text = _text("runbook.md")
    calls = [
        (_method(found[1], text[found.end() :].split("\n", 1)[0]), found[2].rstrip("`'"))
        for found in _CALL.finditer(text)
    ]

    assert len(calls) > 30
    unknown = [
        f"{method} {path}"
        for method, path in calls
        if not any(route.fullmatch(path) and method in methods for route, methods in routes)
    ]
    assert not unknown


def test_links_and_the_rules_lead_to_sections_that_are_there() -> None:
    rules = yaml.safe_load(_text("prometheus-rules.yml"))["groups"][0]["rules"]
    asked = {rule["annotations"]["runbook"].removeprefix("docs/runbook.md#") for rule in rules}
    linked = set(re.findall(r"\]\(#([a-z0-9-]+)\)", _text("runbook.md")))

    assert asked | linked <= _sections("runbook.md")
    for page, section in re.findall(r"\]\(([a-z]+\.md)#([a-z0-9-]+)\)", _text("runbook.md")):
        assert section in _sections(page), (page, section)


def test_every_setting_of_the_runbook_is_one() -> None:
    named = {name.lower() for name in re.findall(r"ZAPHUB_([A-Z_]+)", _text("runbook.md") + _text("metrics.md"))}

    assert named
    assert named <= set(Settings.model_fields)


def test_the_page_of_metrics_names_what_the_rules_ask_for() -> None:
    explained = set(_METRIC.findall(_text("metrics.md")))
    rules = yaml.safe_load(_text("prometheus-rules.yml"))["groups"][0]["rules"]

    assert {name for rule in rules for name in re.findall(r"zaphub_[a-z_]+", rule["expr"])} <= explained
