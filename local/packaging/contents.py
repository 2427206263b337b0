"""Fills the folder that becomes a zip: sources that the handlers import, pinned wheels, no more than AWS needs."""

import json
import os
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Final

from local.environment import CHECKOUT, inherited
from local.packaging.requirements import without
from local.packaging.roles import Role

# What Lambda's Python 3.12 and newer runs on (Amazon Linux 2023, glibc 2.34) takes.
_PLATFORMS: Final = {"arm64": "aarch64-manylinux_2_28", "x86_64": "x86_64-manylinux_2_28"}
_FETCH_S: Final = 300
# Of AWS's client: its description of each of four hundred services; these are called.
_SERVICES: Final = frozenset({"secretsmanager", "sqs", "sts"})
# Sources of compiled modules, types, programs, tests, and what an installer writes down about itself.
_NEEDLESS_FILES: Final = ("*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "RECORD", "INSTALLER", "REQUESTED")
_NEEDLESS_FOLDERS: Final = ("bin", "tests", "test", "__pycache__", "*-stubs")
_DATA: Final = frozenset({".sql", ".json", ".pem"})


class NoPackages(Exception):
    """The pinned wheels cannot be had here; says why."""


def sources(role: Role, checkout: Path = CHECKOUT) -> list[Path]:
    """The files of ours that the handlers import, at their start or later, and those that they read."""
    finder = ModuleFinder(path=[str(checkout)])
    for handler in role.handlers:
        finder.import_hook(handler.rpartition(".")[0])
    files = (getattr(module, "__file__", None) for module in finder.modules.values())
    ours = {Path(file) for file in files if file}
    data = {path for folder in role.data for path in (checkout / folder).iterdir() if path.suffix in _DATA}
    return sorted(path.relative_to(checkout) for path in ours | data)


def fill(folder: Path, role: Role, *, arch: str, python: str, checkout: Path = CHECKOUT) -> None:
    """Make the zip's content in an empty folder. Raises NoPackages."""
    pins = without((checkout / "requirements" / role.requirements).read_text(encoding="utf-8"), role.left_out)
    _wheels(folder, pins, arch=arch, python=python)
    _strip(folder)
    for path in sources(role, checkout):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkout / path, target)


def compile_all(folder: Path, interpreter: str) -> None:
    """Write bytecode that is never checked against its source: a function's folder is read-only."""
    command = [interpreter, "-P", "-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash"]
    # The path that a trace names is that in Lambda; a fixed seed orders the sets among the constants.
    command += ["-s", str(folder), "-p", "/var/task", str(folder)]
    environment = {"PATH": inherited()["PATH"], "PYTHONHASHSEED": "0"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def interpreter_of(version: str, named: str | None = None) -> str | None:
    """A Python of this version, such as "3.12": the one that is named, else one on PATH; None when there is none.

    Raises ValueError when the one that is named cannot be run or is of another version.
    """
    if named is not None:
        try:
            said = _said(named, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
        except OSError:
            said = None
        if said != version:
            raise ValueError(f"{named} is not Python {version}.")
        return named
    if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
        return sys.executable
    return _said(_uv(), "python", "find", "--no-project", "--system", "--offline", version)


def _said(*command: str) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _uv() -> str:
    uv = shutil.which("uv") or shutil.which(CHECKOUT / ".boot" / "bin" / "uv")
    if uv is None:
        raise NoPackages("uv is neither on PATH nor in .boot/bin.")
    return uv


def _wheels(folder: Path, pins: str, *, arch: str, python: str) -> None:
    command = [_uv(), "pip", "install", "--quiet", "--no-config", "--no-deps", "--require-hashes", "--only-binary"]
    command += [":all:", "--link-mode", "copy", "--no-compile-bytecode", "--python-platform", _PLATFORMS[arch]]
    command += ["--python-version", python, "--target", str(folder), "-r", "-"]
    try:
        done = subprocess.run(command, input=pins, capture_output=True, text=True, check=False, timeout=_FETCH_S)
    except subprocess.TimeoutExpired:
        raise NoPackages(f"the packages did not come within {_FETCH_S} s.") from None
    if done.returncode:
        raise NoPackages(done.stderr.strip()[-1000:])


def _strip(folder: Path) -> None:
    for root, folders, files in os.walk(folder):
        at = Path(root)
        for name in [name for name in folders if _matches(name, _NEEDLESS_FOLDERS)]:
            folders.remove(name)
            shutil.rmtree(at / name)
        for name in files:
            if _matches(name, _NEEDLESS_FILES) or (at.suffix == ".dist-info" and name.endswith(".json")):
                (at / name).unlink()
    services = folder / "botocore" / "data"
    for service in services.iterdir() if services.is_dir() else ():
        if service.is_dir() and service.name not in _SERVICES:
            shutil.rmtree(service)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def versions(folder: Path) -> dict[str, str]:
    """The packages in the folder and their versions."""
    found = (path.name.removesuffix(".dist-info").rpartition("-") for path in folder.glob("*.dist-info"))
    return {name: version for name, _, version in sorted(found)}


def note(folder: Path, packages: dict[str, str]) -> None:
    """Leave the list of packages in the zip, for whoever must know what runs."""
    (folder / "packages.json").write_text(json.dumps(packages, indent=2) + "\n", encoding="utf-8")
