"""Terraform on this machine: an AWS provider that knows the schema, made once, and runs in a copy of `infra/`."""

import json
import os
import re
import shutil
import subprocess
import sys
from hashlib import blake2s
from pathlib import Path
from typing import Final

from local.environment import CHECKOUT, inherited
from tests.infra.aws_provider import schema

INFRA: Final = CHECKOUT / "infra"
MODULES: Final = INFRA / "terraform" / "modules"
_HERE: Final = Path(__file__).parent / "aws_provider"
# The npm package whose generated code holds the schema, and the provider's version that it was made from.
_PACKAGE: Final = "@cdktf/provider-aws@21.22.1"
_VERSION: Final = "6.25.0"
_RESOURCE: Final = re.compile(r'^resource "(aws_\w+)"', re.MULTILINE)
_DATA: Final = re.compile(r'^data "(aws_\w+)"', re.MULTILINE)
_RUN_S: Final = 150
_FETCH_S: Final = 60

_LAUNCHER: Final = """\
#!/bin/sh
exec '{python}' '{serve}' '{schema}'
"""
_CONFIG: Final = """\
provider_installation {{
  filesystem_mirror {{
    path = "{mirror}"
  }}
}}
"""


class Missing(Exception):
    """What the provider is made of cannot be had here."""


def provider(cache: Path) -> Path:
    """The CLI configuration of a mirror that holds the provider, made in `cache` unless it is there.

    Raises Missing without terraform, npm or uv, or when npm's or PyPI's index is out of reach.
    """
    if shutil.which("terraform") is None:
        raise Missing("terraform is not on PATH")
    sources = "\n".join(path.read_text(encoding="utf-8") for path in sorted(INFRA.rglob("*.tf")))
    used = sorted({*_RESOURCE.findall(sources), *_DATA.findall(sources)})
    code = b"".join(path.read_bytes() for path in sorted(_HERE.glob("*.*")))
    folder = cache / blake2s(code + "\n".join(used).encode(), digest_size=6).hexdigest()
    config = folder / "terraformrc"
    if not config.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(folder, config, resources=set(_RESOURCE.findall(sources)), data=set(_DATA.findall(sources)))
    return config


def _make(folder: Path, config: Path, *, resources: set[str], data: set[str]) -> None:
    package = _npm_package(folder)
    written = folder / "schema.json"
    written.write_text(json.dumps(schema.read(package, resources=resources, data=data)), encoding="utf-8")
    package.unlink()
    python = _environment(folder)
    platform = f"{'darwin' if sys.platform == 'darwin' else 'linux'}_{_architecture()}"
    home = folder / "mirror" / "registry.terraform.io" / "hashicorp" / "aws" / _VERSION / platform
    home.mkdir(parents=True, exist_ok=True)
    launcher = home / f"terraform-provider-aws_v{_VERSION}"
    launcher.write_text(_LAUNCHER.format(schema=written, python=python, serve=_HERE / "serve.py"), encoding="utf-8")
    launcher.chmod(0o755)
    config.write_text(_CONFIG.format(mirror=folder / "mirror"), encoding="utf-8")


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def _npm_package(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("npm is not on PATH")
    _run([npm, "pack", "--silent", "--pack-destination", str(folder), _PACKAGE], folder)
    [package] = folder.glob("*.tgz")
    return package


def _environment(folder: Path) -> Path:
    uv = shutil.which("uv") or shutil.which(CHECKOUT / ".boot" / "bin" / "uv")
    if uv is None:
        raise Missing("uv is neither on PATH nor in .boot/bin")
    venv = folder / "venv"
    _run([uv, "venv", "--quiet", "--clear", str(venv)], folder)
    python = venv / "bin" / "python"
    pins = str(_HERE / "requirements.txt")
    _run([uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", pins], folder)
    return python


def _run(command: list[str], folder: Path) -> None:
    name = f"`{Path(command[0]).name} {command[1]}`"
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_FETCH_S)
    except subprocess.TimeoutExpired:
        raise Missing(f"{name} took longer than {_FETCH_S} s") from None
    if done.returncode:
        raise Missing(f"{name} failed: {done.stderr.strip()[-300:]}")


class Terraform:
    """The command line over a copy of `infra/`, so that nothing is written into the checkout."""

    def __init__(self, config: Path, copy: Path) -> None:
        self._copy = copy
        self._environment = {
            "PATH": inherited()["PATH"],
            "HOME": str(copy),
            "TF_CLI_CONFIG_FILE": str(config),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
        }
        shutil.copytree(INFRA, copy / "infra", ignore=shutil.ignore_patterns(".terraform*"))

    def folder(self, path: str) -> Path:
        """A folder below `infra/terraform/` in the copy."""
        return self._copy / "infra" / "terraform" / path

    def run(self, *words: str, at: str) -> tuple[int, str]:
        """Its exit code and what it said, in the folder `at`."""
        done = subprocess.run(
            ["terraform", *words, "-no-color"],
            cwd=self.folder(at),
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_RUN_S,
        )
        return done.returncode, done.stdout + done.stderr

    def initialized(self, at: str) -> None:
        """Prepare the folder `at` to be validated and tested."""
        code, said = self.run("init", "-backend=false", "-input=false", at=at)
        assert code == 0, said
