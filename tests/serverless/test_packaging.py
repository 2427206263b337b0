"""The zips for Lambda: the same bytes each time, small enough, and complete: their handlers run from them alone."""

import io
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest

from local.environment import CHECKOUT
from local.packaging.__main__ import LIMIT_BYTES, build, key, main, variables
from local.packaging.archive import Zip
from local.packaging.contents import NoPackages, sources
from local.packaging.requirements import without
from local.packaging.roles import ROLES
from shared.domain.jobs import QueueName

# Three builds of a hundred megabytes and their first imports: half a minute of CPU, which may be scarce.
pytestmark = pytest.mark.timeout(500)

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_ARCH = "arm64" if platform.machine() in {"aarch64", "arm64"} else "x86_64"
# Half of what AWS takes: who adds a large package shall see what it costs.
_BOUND_BYTES = 125_000_000
# The seven queues, the sweeper, and what each imports now or later; then one invocation.
_CLEAN = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
class Context:
    def get_remaining_time_in_millis(self):
        return 20_000
module, event = sys.argv[3], json.loads(sys.argv[4])
answer = importlib.import_module(module).handler(event, Context())
elsewhere = [m.__file__ for m in list(sys.modules.values()) if "site-packages" in (getattr(m, "__file__", None) or "")]
print("SAID", json.dumps({"answer": answer, "elsewhere": elsewhere}))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the zips are made of, as it is now: somebody may edit while the tests run."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("api", "functions", "requirements", "shared"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def zips(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Zip]:
    """Both, for the interpreter and the machine of the tests."""
    out = tmp_path_factory.mktemp("zips")
    return {role: _built(role, out, checkout) for role in ROLES}


def _built(role: str, out: Path, checkout: Path) -> Zip:
    if sys.platform != "linux":
        pytest.skip("wheels for Lambda run on Linux alone")
    try:
        return build(role, arch=_ARCH, python=_PYTHON, out=out, interpreter=sys.executable, checkout=checkout)
    except NoPackages as error:
        pytest.skip(f"no package index answers: {error}")


def _run(folder: Path, module: str, event: object, environment: Mapping[str, str]) -> object:
    """The answer of a handler in an interpreter that sees the zip's content and the standard library, nothing else."""
    ours = [
        path.relative_to(folder) for top in ("api", "functions", "shared") for path in folder.glob(f"{top}/**/*.py")
    ]
    modules = [
        path.with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in ours
        if path.name != "redis_bell.py"
    ]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _CLEAN, str(folder), json.dumps(modules), module, json.dumps(event)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("SAID ")]
    said = json.loads(line.removeprefix("SAID "))
    assert said["elsewhere"] == []
    return said["answer"]


@pytest.fixture
def environment(database_url: str, sqs_urls: Mapping[QueueName, str]) -> dict[str, str]:
    """As Terraform gives it to a function."""
    return {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "ZAPHUB_DATABASE_URL": database_url,
        "ZAPHUB_TRANSPORT": "sqs",
        "ZAPHUB_SQS_QUEUE_URLS": json.dumps(sqs_urls),
        "ZAPHUB_SECRET_KEY": "s" * 32,
        "ZAPHUB_ADMIN_KEY": "k" * 32,
    }


def test_a_queue_function_runs_from_its_zip_alone(
    zips: Mapping[str, Zip], environment: dict[str, str], tmp_path: Path
) -> None:
    ZipFile(zips["functions"].path).extractall(tmp_path)
    event = {"Records": [{"messageId": "1", "body": "message:status"}]}

    assert _run(tmp_path, "functions.message_status", event, environment) == {"batchItemFailures": []}


def test_the_api_runs_from_its_zip_alone(zips: Mapping[str, Zip], environment: dict[str, str], tmp_path: Path) -> None:
    ZipFile(zips["api"].path).extractall(tmp_path)
    event = {
        "version": "2.0",
        "rawPath": "/connections",
        "rawQueryString": "",
        "headers": {"authorization": f"Bearer {environment['ZAPHUB_ADMIN_KEY']}"},
        "requestContext": {"http": {"method": "GET", "path": "/connections", "sourceIp": "192.0.2.1"}},
        "isBase64Encoded": False,
    }

    answer = _run(tmp_path, "api.lambda_handler", event, environment)

    assert isinstance(answer, dict)
    assert (answer["statusCode"], json.loads(answer["body"])["data"]) == (200, [])


def test_the_same_checkout_makes_the_same_bytes(zips: Mapping[str, Zip], checkout: Path, tmp_path: Path) -> None:
    again = _built("functions", tmp_path, checkout)

    assert again.path.read_bytes() == zips["functions"].path.read_bytes()
    assert key(again) == key(zips["functions"])


@pytest.mark.parametrize("role", list(ROLES))
def test_a_zip_holds_what_aws_needs_and_no_more(zips: Mapping[str, Zip], role: str) -> None:
    with ZipFile(zips[role].path) as archive:
        names = archive.namelist()
        packages = json.loads(archive.read("packages.json"))
        dates = {(info.date_time, info.external_attr) for info in archive.infolist()}

    assert zips[role].unzipped_bytes < _BOUND_BYTES < LIMIT_BYTES
    assert packages.keys().isdisjoint(
        {"neonize", "redis", "taskiq_redis", "uvloop", "uvicorn", "boto3", "moto", "pytest"}
    )
    assert ("fastapi" in packages) == (role == "api")
    assert not [name for name in names if name.startswith(("session_host/", "local/", "tests/")) or "/tests/" in name]
    assert not [name for name in names if name.startswith("shared/db/migrations/")]
    assert "shared/db/certificates/rds.pem" in names
    assert len(dates) == 1
    pyc = sum(name.endswith(".pyc") for name in names)
    assert pyc == sum(name.endswith(".py") for name in names)


def test_a_function_knows_nothing_of_the_api_and_the_api_nothing_of_the_functions() -> None:
    tops = {role: {path.parts[0] for path in sources(ROLES[role])} for role in ROLES}

    assert tops == {"functions": {"functions", "shared"}, "api": {"api", "shared"}}


def test_what_only_a_left_out_package_needs_is_left_out_with_it() -> None:
    pins = (
        "a==1 \\\n    --hash=sha256:aa\n    # via zaphub (pyproject.toml)\n"
        "b==2 \\\n    --hash=sha256:bb\n    # via\n    #   a\n    #   c\n"
        "c==3 \\\n    --hash=sha256:cc\n    # via a\n"
        "d==4 ; python_version < '4' \\\n    --hash=sha256:dd\n    # via\n    #   zaphub (pyproject.toml)\n    #   a\n"
    )

    left = without(pins, {"a"})

    assert [line for line in left.splitlines() if "==" in line] == ["d==4 ; python_version < '4' \\"]
    assert "--hash=sha256:dd" in left
    with pytest.raises(ValueError, match="not among the pinned packages: e"):
        without(pins, {"e"})


def test_bytecode_of_another_version_is_refused_before_anything_is_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "3.13" if _PYTHON != "3.13" else "3.14"

    code = main(["--python", other, "--interpreter", sys.executable, "--out", str(tmp_path / "zips")])

    assert (code, capsys.readouterr().err) == (1, f"{sys.executable} is not Python {other}.\n")
    assert not (tmp_path / "zips").exists()


def test_terraform_is_told_where_the_zips_lie(tmp_path: Path) -> None:
    made = {
        role: Zip(path=tmp_path / f"{role}-arm64.zip", sha256="+/8=", zipped_bytes=1, unzipped_bytes=1, files=1)
        for role in ROLES
    }

    told = json.load(io.StringIO(variables(made, bucket="zips", arch="arm64", python="3.12")))

    assert told["packages"] == {
        "bucket": "zips",
        "functions": {"key": "functions-arm64-fbff.zip", "sha256": "+/8="},
        "api": {"key": "api-arm64-fbff.zip", "sha256": "+/8="},
    }
    assert (told["architecture"], told["runtime"]) == ("arm64", "python3.12")
