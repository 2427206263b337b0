"""`./zh check`, its last line: do the pinned packages have known holes? Asks PyPI, where that can be reached."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from local.environment import CHECKOUT

PINS: Final = CHECKOUT / "requirements" / "dev.txt"  # every other role's pins are among these
_TIMEOUT_S: Final = 180
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
_UNREACHABLE: Final = "the package index cannot be asked for advisories"


@dataclass(frozen=True, slots=True)
class Audited:
    """`is_ok` None: nobody could be asked. `lines` say why, or name each hole."""

    is_ok: bool | None
    lines: Sequence[str]


# Runs pip-audit with these arguments and returns what it wrote to standard output; raises TimeoutExpired.
Run = Callable[[Sequence[str]], str]


def audit(run: Run | None = None, *, pins: Path = PINS) -> Audited:
    """Look the pins up. One of them goes first, so that an index without advisories is asked one question only."""
    ask = run or _run
    first = _PIN.search(pins.read_text(encoding="utf-8"))
    assert first is not None, f"{pins} pins nothing"
    found: list[str] | None = None
    with TemporaryDirectory(prefix="zh-audit-") as folder:
        probe = Path(folder) / "probe.txt"
        probe.write_text(f"{first[1]}=={first[2]}\n", encoding="utf-8")
        try:
            for requirements in (probe, pins):
                found = _found(ask(["--requirement", str(requirements), "--no-deps"]))
                if found is None:
                    return Audited(None, [_UNREACHABLE])
        except subprocess.TimeoutExpired:
            return Audited(None, [f"{_UNREACHABLE} within {_TIMEOUT_S} s"])
    return Audited(not found, found or [])


def _run(arguments: Sequence[str]) -> str:
    program = Path(sys.executable).with_name("pip-audit")
    options = ["--disable-pip", "--progress-spinner", "off", "--format", "json", "--timeout", "10"]
    return subprocess.run(
        [program, *arguments, *options], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    ).stdout


def _found(output: str) -> list[str] | None:
    """One line for each hole; None when nothing was told, or no package was known to whoever was asked."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError):
        return None  # pip-audit ends with a word to standard error when it reaches nobody
    if not any("vulns" in package for package in packages):
        return None
    return [
        f"{package['name']} {package['version']}: {hole['id']}, "
        f"mended in {', '.join(hole['fix_versions']) or 'no version yet'}"
        for package in packages
        for hole in package.get("vulns", [])
    ]
