"""`python -m local.packaging --out DIR`: the zips, and `packages.tfvars.json`, which tells Terraform of them.

Each zip is named after its role and architecture, and goes to S3 under a key that holds its hash, so that an older one
stays there to go back to. The commands that upload them are said at the end.
"""

import argparse
import base64
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from local.environment import CHECKOUT
from local.packaging import contents
from local.packaging.archive import Zip, write
from local.packaging.roles import ROLES

# AWS refuses more, unzipped, layers and all.
LIMIT_BYTES: Final = 250 * 2**20
DEFAULT_PYTHON: Final = "3.12"
_VARIABLES: Final = "packages.tfvars.json"


def build(
    role: str, *, arch: str, python: str, out: Path, interpreter: str | None = None, checkout: Path = CHECKOUT
) -> Zip:
    """Build one role's zip in `out`, with the bytecode of this interpreter, or with none.

    Raises NoPackages, and ValueError when it is larger than AWS takes.
    """
    with tempfile.TemporaryDirectory(prefix="zaphub-zip-") as name:
        folder = Path(name)
        contents.fill(folder, ROLES[role], arch=arch, python=python, checkout=checkout)
        contents.note(folder, contents.versions(folder))
        if interpreter is not None:
            contents.compile_all(folder, interpreter)
        made = write(folder, out / f"{role}-{arch}.zip")
    if made.unzipped_bytes >= LIMIT_BYTES:
        raise ValueError(f"{made.path}: {made.unzipped_bytes} bytes unzipped; AWS takes {LIMIT_BYTES}.")
    return made


def key(made: Zip) -> str:
    """Where the zip lies in its bucket."""
    return f"{made.path.stem}-{base64.b64decode(made.sha256).hex()[:16]}.zip"


def variables(made: Mapping[str, Zip], *, bucket: str, arch: str, python: str) -> str:
    """The Terraform variables that name these zips."""
    packages = {role: {"key": key(one), "sha256": one.sha256} for role, one in made.items()}
    value = {"packages": {"bucket": bucket, **packages}, "architecture": arch, "runtime": f"python{python}"}
    return json.dumps(value, indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what was asked for. Returns 0 done, 1 it could not be built."""
    options = _options(arguments)
    try:
        made = _build_all(options)
    except (contents.NoPackages, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    say = sys.stdout.write
    if made.keys() == ROLES.keys():
        text = variables(made, bucket=options.bucket, arch=options.arch, python=options.python)
        (options.out / _VARIABLES).write_text(text, encoding="utf-8")
        say(f"{options.out / _VARIABLES}  for terraform -var-file\n")
    for one in made.values():
        say(f"aws s3 cp {one.path} s3://{options.bucket}/{key(one)}\n")
    return 0


def _build_all(options: argparse.Namespace) -> dict[str, Zip]:
    interpreter = contents.interpreter_of(options.python, options.interpreter)
    say = sys.stdout.write
    if interpreter is None:
        say(
            f"No Python {options.python} is here: no bytecode, so every cold start compiles. --interpreter names one.\n"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    made = {}
    for role in options.role or ROLES:
        one = build(role, arch=options.arch, python=options.python, out=options.out, interpreter=interpreter)
        made[role] = one
        say(f"{one.path}  {one.zipped_bytes / 1e6:.1f} MB, {one.unzipped_bytes / 1e6:.1f} MB unzipped\n")
    return made


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.packaging", description="Build the zips for AWS Lambda.")
    parser.add_argument("--arch", choices=("arm64", "x86_64"), default="arm64", help="of the functions; arm64")
    parser.add_argument(
        "--python", choices=("3.12", "3.13", "3.14"), default=DEFAULT_PYTHON, help="their runtime; 3.12"
    )
    parser.add_argument("--interpreter", metavar="P", help="a Python of that version, which writes the bytecode")
    parser.add_argument("--role", choices=tuple(ROLES), action="append", help="this zip alone; all unless given")
    parser.add_argument("--bucket", default="BUCKET", metavar="B", help="where you will upload them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the zips are written")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
