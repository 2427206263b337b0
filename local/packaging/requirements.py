"""The pinned packages of a role without those that are left out, and without what only they need."""

import re
from collections.abc import Collection
from typing import Final

_BLOCK: Final = re.compile(r"^(?P<name>[a-zA-Z0-9._-]+)==.*?(?=^[a-zA-Z0-9]|\Z)", re.MULTILINE | re.DOTALL)
_VIA: Final = re.compile(r"^ +# +(?:via )?(?P<name>[a-zA-Z0-9._-]+)", re.MULTILINE)


def without(pins: str, left_out: Collection[str]) -> str:
    """The lines of a file of requirements/, hashes and all, less these packages and those that nobody else asks for.

    Raises ValueError when the file has no such package, as the list of them is old then.
    """
    blocks = {found["name"]: found[0] for found in _BLOCK.finditer(pins)}
    if unknown := sorted(set(left_out) - blocks.keys()):
        raise ValueError(f"not among the pinned packages: {', '.join(unknown)}")
    wanted_by = {name: {found["name"] for found in _VIA.finditer(block)} - {"via"} for name, block in blocks.items()}
    gone = set(left_out)
    while more := {name for name, by in wanted_by.items() if name not in gone and by and by <= gone}:
        gone |= more
    return "".join(block for name, block in blocks.items() if name not in gone)
