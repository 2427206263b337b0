"""Secrets are compared in constant time: no `==` between things that are named like one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).parents[3]
_SECRET = re.compile(r"(^|_)(token|secret|signature|mac|hmac|digest|password|passwd|api_key|admin_key|key_hash)(s?$|_)")
# Compared with what is no secret: where the name says more than the value is.
_HARMLESS: set[str] = set()


def _compared() -> Iterator[str]:
    for folder in ("api", "functions", "session_host", "shared"):
        for path in (_ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Compare) and any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops):
                    sides = [node.left, *node.comparators]
                    if not any(isinstance(side, ast.Constant) for side in sides) and any(map(_is_secret, sides)):
                        yield f"{path.relative_to(_ROOT)}: {ast.unparse(node)}"


def _is_secret(side: ast.expr) -> bool:
    name = side.id if isinstance(side, ast.Name) else side.attr if isinstance(side, ast.Attribute) else ""
    return bool(_SECRET.search(name.lower()))


def test_nothing_that_is_named_like_a_secret_is_compared_with_equals() -> None:
    assert set(_compared()) == _HARMLESS


def test_such_a_comparison_would_be_seen() -> None:
    [compare] = [node for node in ast.walk(ast.parse("given_token == expected")) if isinstance(node, ast.Compare)]

    assert _is_secret(compare.left)
    assert not _is_secret(compare.comparators[0])
