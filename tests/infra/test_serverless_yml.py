"""`serverless.yml` packages offline into a template that says what the policies say, lints clean and can be created."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from hashlib import blake2s
from pathlib import Path
from typing import Any

import botocore.session
import httpx
import pytest
import yaml

from local import queue_table, serverless_yml
from local.environment import CHECKOUT, inherited

_OSLS = "osls@4.3.1"
_FETCH_S = 120
_PACKAGE_S = 90
_ACCOUNT = "123456789012"
_REGION = "sa-east-1"
_STAGE = "test"
_TABLE = queue_table.table()
_SSM = {
    "api-id": "api123",
    "secrets-arn": f"arn:aws:secretsmanager:{_REGION}:{_ACCOUNT}:secret:zaphub-test/functions-AbCdEf",
}


@pytest.fixture(scope="module")
def osls() -> Path:
    """The program, fetched once into .zaphub/infra."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not on PATH")
    folder = CHECKOUT / ".zaphub" / "infra" / f"osls-{blake2s(_OSLS.encode(), digest_size=6).hexdigest()}"
    program = folder / "node_modules" / ".bin" / "osls"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--no-save", "--no-package-lock", _OSLS]
        try:
            done = subprocess.run(
                [*install, "--prefix", str(folder)], capture_output=True, text=True, check=False, timeout=_FETCH_S
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm did not fetch {_OSLS} within {_FETCH_S} s")
        if done.returncode:
            pytest.skip(f"npm could not fetch {_OSLS}: {done.stderr.strip()[-300:]}")
    return program


@pytest.fixture(scope="module")
def template(osls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CloudFormation template of a stage, made with no credentials and no network to ask."""
    folder = tmp_path_factory.mktemp("serverless")
    shutil.copy(serverless_yml.PATH, folder)
    (folder / "dist").mkdir()
    for role in ("functions", "api"):
        (folder / "dist" / f"{role}-arm64.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    # A proxy where nobody listens: a call of anything would fail.
    environment = {"PATH": inherited()["PATH"], "HOME": str(folder), "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(
        [
            str(osls),
            "package",
            "--stage",
            _STAGE,
            "--param",
            "bucket=zips",
            "--param",
            "secrets_version=7",
            "--package",
            "out",
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_PACKAGE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out" / "cloudformation-template-update-stack.json"


def _of_type(template: Path, kind: str) -> list[dict[str, Any]]:
    resources = json.loads(template.read_text(encoding="utf-8"))["Resources"].values()
    return [resource["Properties"] for resource in resources if resource["Type"] == kind]


def test_it_holds_functions_and_triggers_and_nothing_that_terraform_owns() -> None:
    written = yaml.safe_load(serverless_yml.PATH.read_text(encoding="utf-8"))

    assert {resource["Type"] for resource in written["resources"]["Resources"].values()} == {"AWS::Lambda::Permission"}
    assert len(written["functions"]) == len(_TABLE["queues"]) + 2
    assert "iam" not in written["provider"]


def test_the_template_has_the_numbers_of_the_policies(template: Path) -> None:
    functions = {function["FunctionName"]: function for function in _of_type(template, "AWS::Lambda::Function")}
    mappings = {
        mapping["EventSourceArn"]["Fn::Join"][1][-1]: mapping
        for mapping in _of_type(template, "AWS::Lambda::EventSourceMapping")
    }

    for entry in [*_TABLE["queues"], _TABLE["sweeper"], _TABLE["api"]]:
        name = f"zaphub-{_STAGE}-{entry['name']}"
        function = functions.pop(name)
        assert (function["Handler"], function["Timeout"]) == (entry["handler"], entry["function_timeout_s"])
        assert function["MemorySize"] == entry["memory_mb"]
        assert function["Role"]["Fn::Sub"].endswith(f":role/{name}")
        assert function["Environment"]["Variables"] == {
            "ZAPHUB_SECRETS_ARN": {"Ref": "SecretsArn"},
            "SECRETS_VERSION": "7",
        }
        # The roles have no right to write traces, and Terraform's functions write none.
        assert "TracingConfig" not in function
        if "queue" in entry:
            mapping = mappings.pop(name)
            assert mapping["BatchSize"] == entry["batch_size"]
            assert mapping["ScalingConfig"] == {"MaximumConcurrency": entry["max_concurrency"]}
            assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert (functions, mappings) == ({}, {})
    [rule] = _of_type(template, "AWS::Events::Rule")
    assert rule["ScheduleExpression"] == _TABLE["sweeper"]["schedule"]
    # Terraform owns roles and logs.
    assert _of_type(template, "AWS::IAM::Role") == _of_type(template, "AWS::Logs::LogGroup") == []


def test_cfn_lint_finds_nothing(template: Path) -> None:
    program = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([str(program), str(template)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


# Moto makes all of the stack but the sweeper's limit of retries, which it does not know, and says so.
@pytest.mark.filterwarnings("ignore:Tried to parse AWS..Lambda..EventInvokeConfig:UserWarning")
def test_cloudformation_makes_the_stack_beside_what_terraform_made(
    template: Path, sqs_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    aws = _Aws(sqs_endpoint)
    _as_terraform_does(aws, template)

    aws.cloudformation.create_stack(StackName="zaphub-test-functions", TemplateBody=template.read_text("utf-8"))

    [stack] = aws.cloudformation.describe_stacks(StackName="zaphub-test-functions")["Stacks"]
    functions: Mapping[str, Any] = {
        function["FunctionName"]: function for function in aws.awslambda.list_functions()["Functions"]
    }
    mappings = aws.awslambda.list_event_source_mappings()["EventSourceMappings"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert functions.keys() == {
        f"zaphub-test-{entry['name']}" for entry in [*_TABLE["queues"], _TABLE["sweeper"], _TABLE["api"]]
    }
    assert {mapping["EventSourceArn"] for mapping in mappings} == {
        f"arn:aws:sqs:{_REGION}:{_ACCOUNT}:zaphub-test-{entry['name']}" for entry in _TABLE["queues"]
    }
    assert functions["zaphub-test-api"]["Environment"]["Variables"] == {
        "ZAPHUB_SECRETS_ARN": _SSM["secrets-arn"],
        "SECRETS_VERSION": "7",
    }


class _Aws:
    """Clients of a server that stands in for AWS, emptied."""

    def __init__(self, endpoint: str) -> None:
        httpx.post(f"{endpoint}/moto-api/reset").raise_for_status()
        session = botocore.session.get_session()

        def client(service: str) -> Any:
            return session.create_client(service, region_name=_REGION, endpoint_url=endpoint)

        self.cloudformation, self.awslambda, self.iam = client("cloudformation"), client("lambda"), client("iam")
        self.s3, self.sqs, self.ssm, self.ec2 = client("s3"), client("sqs"), client("ssm"), client("ec2")


def _as_terraform_does(aws: _Aws, template: Path) -> None:
    """The queues, roles, parameters and zips that the template counts on."""
    for entry in _TABLE["queues"]:
        aws.sqs.create_queue(QueueName=f"zaphub-test-{entry['name']}")
    for entry in [*_TABLE["queues"], _TABLE["sweeper"], _TABLE["api"]]:
        aws.iam.create_role(
            RoleName=f"zaphub-test-{entry['name']}",
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": []}),
        )
    network = aws.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = aws.ec2.create_subnet(VpcId=network, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    group = aws.ec2.create_security_group(VpcId=network, GroupName="g", Description="g")["GroupId"]
    found = {"subnet-ids": subnet, "functions-security-group-ids": group, "api-security-group-ids": group}
    for name, value in {**_SSM, **found}.items():
        aws.ssm.put_parameter(Name=f"/zaphub-test/{name}", Value=value, Type="String")
    aws.s3.create_bucket(Bucket="zips", CreateBucketConfiguration={"LocationConstraint": _REGION})
    for function in _of_type(template, "AWS::Lambda::Function"):
        aws.s3.put_object(Bucket="zips", Key=function["Code"]["S3Key"], Body=b"PK\x05\x06" + bytes(18))
