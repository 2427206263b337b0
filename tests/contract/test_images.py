"""The images hold what their parts import, and the files that describe them are valid. No Docker engine runs here."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from shared.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "infra/docker/Dockerfile"
COMPOSE = ROOT / "compose.yml"
EXAMPLE = ROOT / "infra/docker/compose.env.example"

# As in the image: our folders from where they were copied to, and of the packages only those that are pinned for it.
_IMPORTER = """
import importlib, importlib.abc, importlib.metadata, json, re, sys
folder, pins, modules = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
name = lambda text: re.sub(r"[-_.]+", "-", text).lower()
pinned = {name(line.split("==")[0]) for line in open(pins) if "==" in line and not line.startswith((" ", "#"))}
owners = importlib.metadata.packages_distributions()
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        top = fullname.partition(".")[0]
        theirs = {name(one) for one in owners.get(top, ())}
        if theirs and not theirs & pinned:
            raise ModuleNotFoundError(f"{fullname} is not in {pins}", name=fullname)
sys.meta_path.insert(0, Absent())
# The checkout itself is on the path of this environment, and not on that of an image.
sys.path[:] = [folder, *(one for one in sys.path if "site-packages" in one or "lib/python" in one)]
for module in modules:
    importlib.import_module(module)
ours = {top: sys.modules[top].__file__ for top in ("shared", "functions", "api", "session_host") if top in sys.modules}
assert all(str(path).startswith(folder) for path in ours.values()), ours
"""


def _targets() -> dict[str, str]:
    """The text of each stage, by its name."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(
    ("target", "modules"),
    [
        ("worker", ["functions.worker", "functions.scheduler", "taskiq.cli.worker.run", "shared.db.migrate"]),
        ("api", ["api.app", "api.patient_http", "uvicorn"]),
        ("session-host", ["session_host.__main__", "session_host.child", "neonize"]),
    ],
)
def test_an_image_holds_what_its_part_imports(tmp_path: Path, target: str, modules: list[str]) -> None:
    stage = _targets()[target]
    assert "USER 10001:10001" in stage
    folders = re.findall(r"^COPY (\w+)/ \1/$", stage, re.MULTILINE)
    assert folders, stage
    for folder in folders:
        (tmp_path / folder).symlink_to(ROOT / folder)

    pins = str(ROOT / f"requirements/{target}.txt")
    done = subprocess.run(
        [sys.executable, "-I", "-c", _IMPORTER, str(tmp_path), pins, json.dumps(modules)],
        env={
            "ZAPHUB_DATABASE_URL": "postgresql://nobody",
            "ZAPHUB_SECRET_KEY": "0" * 32,
            "ZAPHUB_HOST_TOKEN": "0" * 32,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]


def test_the_ignore_file_lets_in_what_is_copied() -> None:
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)

    for source in copied:
        assert f"!{source}" in allowed or (source.startswith("requirements/") and "!requirements/*.txt" in allowed)


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(["hadolint", str(DOCKERFILE)], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout


def test_compose_is_valid_and_names_settings_that_exist() -> None:
    schema = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(schema, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    text = COMPOSE.read_text(encoding="utf-8")
    known = {f"ZAPHUB_{name.upper()}" for name in Settings.model_fields}
    # What compose itself reads: the name users type, and the tag of the images.
    known |= {"ZAPHUB_DOMAIN", "ZAPHUB_VERSION"}
    named = set(re.findall(r"ZAPHUB_[A-Z0-9_]+", text + DOCKERFILE.read_text(encoding="utf-8")))
    assert named <= known
    asked = set(re.findall(r"\$\{(\w+)", text))
    offered = set(re.findall(r"^#?([A-Z0-9_]+)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE))
    assert asked == offered


def test_every_service_of_compose_is_built_or_pinned_and_runs_with_little() -> None:
    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]

    for name, service in services.items():
        image = service["image"]
        assert ":" in image, name
        assert not image.endswith(":latest"), name
        if "build" in service:
            assert service["build"]["target"] in _targets(), name
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
    assert [name for name, service in services.items() if "ports" in service] == ["caddy"]
