"""The first line of `./zh`: it makes .venv when there is none that runs this checkout, and costs nothing afterwards."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.environment import CHECKOUT

# In the place of uv: it makes an environment without packages, and notes what it was asked for.
_UV = f"""#!/bin/sh
echo "$1" >>"$NOTES"
[ "$1" = venv ] || exit 0
for last in "$@"; do :; done
[ ! -e "$last" ] || exit 2
exec {sys.executable} -m venv --without-pip "$last"
"""


class Checkout:
    """A folder with `zh`, pins of nothing, and a command line that says where it is."""

    def __init__(self, root: Path, tools: Path) -> None:
        self.root = root
        self._tools = tools
        (root / "requirements").mkdir(parents=True)
        (root / "local").mkdir()
        shutil.copy(CHECKOUT / "zh", root / "zh")
        self.pins = root / "requirements" / "local.txt"
        self.pins.touch()
        (root / "local" / "cli.py").write_text("import sys; print(__file__, *sys.argv[1:])")
        tools.mkdir(exist_ok=True)
        (tools / "uv").write_text(_UV)
        (tools / "uv").chmod(0o755)

    def zh(self, *arguments: str) -> tuple[str, list[str]]:
        """What it says, and what uv was asked for; called from another folder."""
        notes = self._tools / "notes"
        notes.write_text("")
        done = subprocess.run(
            [self.root / "zh", *arguments],
            cwd=self._tools,
            env={"PATH": f"{self._tools}:/usr/bin:/bin", "NOTES": str(notes)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout, notes.read_text().split()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout", tmp_path / "tools")


def _says(checkout: Checkout, *arguments: str) -> str:
    return " ".join([str(checkout.root / "local" / "cli.py"), *arguments]) + "\n"


def test_only_the_first_call_installs_until_the_pins_change(checkout: Checkout) -> None:
    assert checkout.zh("help") == (_says(checkout, "help"), ["venv", "pip"])
    assert checkout.zh("up", "--port", "0") == (_says(checkout, "up", "--port", "0"), [])

    checkout.pins.write_text("new==1\n")

    assert checkout.zh() == (_says(checkout), ["pip"])


@pytest.mark.parametrize("left", ["the stamp", "nothing but a folder"])
def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Checkout, left: str) -> None:
    checkout.zh()
    venv = checkout.root / ".venv"
    if left == "the stamp":
        (venv / "bin" / "python").unlink()
        (venv / "bin" / "python").symlink_to("/usr/bin/python-of-last-year")
    else:
        shutil.rmtree(venv)
        (venv / "bin").mkdir(parents=True)

    assert checkout.zh() == (_says(checkout), ["venv", "pip"])


def test_a_checkout_that_was_moved_or_copied_runs_its_own_code(checkout: Checkout, tmp_path: Path) -> None:
    checkout.zh()
    shutil.copytree(checkout.root, tmp_path / "copy", symlinks=True)
    original, checkout.root = checkout.root, tmp_path / "copy"

    assert checkout.zh() == (_says(checkout), ["venv", "pip"])
    assert checkout.zh() == (_says(checkout), [])

    checkout.root = original
    assert checkout.zh() == (_says(checkout), [])
