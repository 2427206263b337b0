"""`./zh check`: format, lint, types, import rules and known holes, a line each, all of them whatever the first says."""

import subprocess
import sys
import time
from pathlib import Path

from local.audit import audit
from local.environment import CHECKOUT

_CHECKS = {
    "format": ["ruff", "format", "--check", "--quiet", "."],
    "lint": ["ruff", "check", "--quiet", "."],
    "types": ["mypy"],
    "imports": ["lint-imports", "--no-cache"],
}


def check() -> int:
    """Run every check on the checkout; 0 when all hold. A failing one's output follows its line."""
    failed = [name for name, command in _CHECKS.items() if not _holds(name, command)]
    if not _audit_holds():
        failed.append("audit")
    sys.stdout.write(f"failed: {', '.join(failed)}\n" if failed else "all checks hold\n")
    return 1 if failed else 0


def _audit_holds() -> bool:
    """Print what is known of the pinned packages. Nobody to ask is no failure: a checkout works without a network."""
    if not Path(sys.executable).with_name("pip-audit").exists():
        sys.stdout.write("audit    missing   run ./zh test once: it installs the checks\n")
        return False
    began = time.monotonic()
    audited = audit()
    verdict = {True: "ok", False: "FAILED", None: "skipped"}[audited.is_ok]
    sys.stdout.write(f"audit    {verdict:<7}{time.monotonic() - began:6.1f} s   pip-audit of requirements/dev.txt\n")
    sys.stdout.write("".join(f"    {line}\n" for line in audited.lines))
    return audited.is_ok is not False


def _holds(name: str, command: list[str]) -> bool:
    program = Path(sys.executable).with_name(command[0])
    if not program.exists():
        sys.stdout.write(f"{name:<8} missing   run ./zh test once: it installs the checks\n")
        return False
    began = time.monotonic()
    done = subprocess.run([program, *command[1:]], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    verdict = "ok" if done.returncode == 0 else "FAILED"
    sys.stdout.write(f"{name:<8} {verdict:<6} {time.monotonic() - began:6.1f} s   {' '.join(command)}\n")
    if done.returncode != 0:
        sys.stdout.write("".join(f"    {line}\n" for line in (done.stdout + done.stderr).splitlines()))
    sys.stdout.flush()
    return done.returncode == 0
