"""The Terraform of `infra/`: formatted, valid by the AWS provider's schema, and its own tests pass."""

import re
import shutil
import subprocess

import pytest

from tests.infra.terraform_runs import INFRA, MODULES, Terraform

_BLOCK = re.compile(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
_MODULES = sorted(path.name for path in MODULES.iterdir())


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not on PATH")
def test_it_is_formatted() -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", "-recursive", str(INFRA)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_an_environment_is_valid(terraform: Terraform, environment: str) -> None:
    at = f"environments/{environment}"
    terraform.initialized(at)
    code, said = terraform.run("validate", at=at)
    assert code == 0, said


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("  visibility_timeout_seconds ", "  visibilty_timeout_seconds ", "visibilty_timeout_seconds"),
        ("  queue_url = aws_sqs_queue.dead_letters.id\n", "", 'argument "queue_url" is required'),
        ("= var.kms_key_arn\n", "= { a = [1] }\n", "string required"),
    ],
)
def test_the_schema_sees_what_is_wrong(terraform: Terraform, right: str, wrong: str, complaint: str) -> None:
    at = "modules/queue"
    source = terraform.folder(at) / "main.tf"
    text = source.read_text(encoding="utf-8")
    assert right in text
    source.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    terraform.initialized(at)
    code, said = terraform.run("validate", at=at)
    assert code != 0
    assert complaint in said


@pytest.mark.timeout(400)
@pytest.mark.parametrize("module", _MODULES)
def test_a_module_keeps_its_own_tests(terraform: Terraform, module: str) -> None:
    at = f"modules/{module}"
    terraform.initialized(at)
    code, said = terraform.run("test", at=at)
    assert code == 0, said
    assert re.search(r"Success! [1-9]\d* passed, 0 failed", said), said


@pytest.mark.parametrize("module", _MODULES)
def test_a_module_says_what_it_takes_and_gives(module: str) -> None:
    readme = (MODULES / module / "README.md").read_text(encoding="utf-8")
    assert "```mermaid" in readme, "a picture"
    for file in ("variables.tf", "outputs.tf"):
        for kind, name, body in _BLOCK.findall((MODULES / module / file).read_text(encoding="utf-8")):
            assert re.search(r'^  description = ".+"$', body, re.MULTILINE), f"{kind} {name} has no description"
            assert f"`{name}`" in readme, f"the README leaves out the {kind} {name}"


def test_the_environments_differ_in_size_alone() -> None:
    dev, prod = (INFRA / "terraform" / "environments" / name for name in ("dev", "prod"))

    for name in ("outputs.tf", "versions.tf"):
        assert (dev / name).read_text(encoding="utf-8") == (prod / name).read_text(encoding="utf-8")
    small, large = ((root / "variables.tf").read_text(encoding="utf-8") for root in (dev, prod))
    assert large.startswith(small), "prod takes what dev takes, and then what sizes it"
    wired = [
        re.findall(r"^  (\w+) += var\.\1$", (root / "main.tf").read_text("utf-8"), re.MULTILINE) for root in (dev, prod)
    ]
    assert set(wired[0]) <= set(wired[1])
