"""The pages point at what is there: links, sections, files, and the commands and options of `./zh`."""

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from local import cli
from local.backup import backup, restore
from local.bench import main as bench
from local.demo import main as demo

_ROOT = Path(__file__).parents[2]
_PAGES = sorted([*_ROOT.glob("*.md"), *(_ROOT / "docs").rglob("*.md"), *(_ROOT / "infra").glob("*.md")])
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:\.ci|api|docs|functions|infra|local|requirements|session_host|shared|tests)/[\w./-]+)`")
_CALL = re.compile(r"\./zh ([a-z][a-z-]*)([^`#\n&|]*)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
# Their options are another program's.
_PASSED_ON = frozenset({"test", "api", "worker", "scheduler", "session-host", "fake-whatsapp"})


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_every_link_and_path_of_a_page_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in _LINK.findall(_CODE.sub("", text)) if not re.match(r"[a-z]+:", link)]

    lost = [link for link in links if not _leads_somewhere(page, link)]
    lost += [path for path in _PATH.findall(text) if "NNNN" not in path and not (_ROOT / path).exists()]

    assert not lost


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_every_command_of_a_page_is_one_with_these_options(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    helps = _helps()

    for name, rest in _CALL.findall(text):
        assert name in helps, f"./zh {name}"
        for option in () if name in _PASSED_ON else _OPTION.findall(rest):
            assert option == "--help" or option in helps[name], f"./zh {name} {option}"


def test_every_page_of_docs_is_in_the_readme() -> None:
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")

    assert [page.name for page in (_ROOT / "docs").glob("*.md") if f"(docs/{page.name})" not in readme] == []


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, section = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not section or section in _sections(target))


@cache
def _sections(page: Path) -> frozenset[str]:
    """The anchors of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*)$", _CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings)


@cache
def _helps() -> dict[str, str]:
    """By command: its help, with that of what is below it."""
    ours, names = cli._parser()
    [commands] = (action for action in ours._actions if isinstance(action.choices, dict))
    assert isinstance(commands.choices, dict)
    helps = {name: "".join(_help(commands.choices[name])) for name in names}
    modules = {"demo": demo, "backup": backup, "restore": restore, "bench": bench}
    return (
        {"help": "", "test": "", "fake-whatsapp": ""}
        | helps
        | {name: module._parser().format_help() for name, module in modules.items()}
    )


def _help(parser: ArgumentParser) -> Iterator[str]:
    yield parser.format_help()
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for below in action.choices.values():
                yield from _help(below)
