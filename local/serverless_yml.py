"""The text of `serverless.yml`: functions and triggers from the one policy table, which `local.queue_table` writes."""

from typing import Any, Final

from local.environment import CHECKOUT

PATH: Final = CHECKOUT / "serverless.yml"

_HEAD: Final = """\
# The functions and their triggers, for who deploys them with osls (or Serverless) and not with Terraform.
# Written by `python -m local.queue_table` from shared/queues/policies.py; a test compares. docs/serverless.md says how.
# Queues, roles, logs, secrets, database, network and API Gateway are Terraform's: functions_by = "serverless".

service: zaphub
frameworkVersion: "4"

provider:
  name: aws
  runtime: python3.12
  architecture: ${param:arch, 'arm64'}
  region: ${opt:region, 'sa-east-1'}
  stage: ${opt:stage, 'dev'}
  stackName: zaphub-${sls:stage}-functions
  deploymentBucket: ${param:bucket}
  versionFunctions: false
  environment:
    # All settings are in the secret.
    ZAPHUB_SECRETS_ARN: { Ref: SecretsArn }
    # A container reads it once. Another number is another environment, for which AWS replaces them all.
    SECRETS_VERSION: ${param:secrets_version, '1'}
  vpc: &functions
    subnetIds: { "Fn::Split": [",", { Ref: SubnetIds }] }
    securityGroupIds: { "Fn::Split": [",", { Ref: FunctionsSecurityGroupIds }] }

package:
  individually: true

functions:
"""

_TAIL: Final = """\
resources:
  Parameters:
    ApiId: { Type: "AWS::SSM::Parameter::Value<String>", Default: "/zaphub-${sls:stage}/api-id" }
    SecretsArn: { Type: "AWS::SSM::Parameter::Value<String>", Default: "/zaphub-${sls:stage}/secrets-arn" }
    # Ids with commas between them.
    SubnetIds: { Type: "AWS::SSM::Parameter::Value<String>", Default: "/zaphub-${sls:stage}/subnet-ids" }
    FunctionsSecurityGroupIds:
      Type: AWS::SSM::Parameter::Value<String>
      Default: /zaphub-${sls:stage}/functions-security-group-ids
    ApiSecurityGroupIds:
      Type: AWS::SSM::Parameter::Value<String>
      Default: /zaphub-${sls:stage}/api-security-group-ids
  Resources:
    # The API's trigger: API Gateway itself, its domain and its limits are Terraform's.
    ApiGatewayCallsTheApi:
      Type: AWS::Lambda::Permission
      Properties:
        Action: lambda:InvokeFunction
        FunctionName: { "Fn::GetAtt": [ApiLambdaFunction, Arn] }
        Principal: apigateway.amazonaws.com
        SourceArn: { "Fn::Sub": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${ApiId}/*" }
"""

_QUEUE_ARN: Final = (
    '"arn"',
    '{ Ref: "AWS::Partition" }',
    '"sqs"',
    '{ Ref: "AWS::Region" }',
    '{ Ref: "AWS::AccountId" }',
)
_ROLE: Final = '"arn:${AWS::Partition}:iam::${AWS::AccountId}:role/zaphub-${sls:stage}-'


def text(table: dict[str, Any]) -> str:
    """The file's content for `local.queue_table.table()`."""
    queues = "\n".join(_queue(entry) for entry in table["queues"])
    return "\n".join((_HEAD + queues, _sweeper(table["sweeper"]), _api(table["api"]), _TAIL))


def _queue(entry: dict[str, Any]) -> str:
    arn = ", ".join((*_QUEUE_ARN, f'"zaphub-${{sls:stage}}-{entry["name"]}"'))
    return _function(entry, "functions") + (
        "    events:\n"
        "      - sqs:\n"
        f'          arn: {{ "Fn::Join": [":", [{arn}]] }}\n'
        f"          batchSize: {entry['batch_size']}\n"
        "          functionResponseType: ReportBatchItemFailures\n"
        f"          maximumConcurrency: {entry['max_concurrency']}\n"
    )


def _sweeper(entry: dict[str, Any]) -> str:
    return _function(entry, "functions") + (
        "    reservedConcurrency: 1\n"
        "    maximumEventAge: 60\n"
        "    maximumRetryAttempts: 0\n"
        "    events:\n"
        f"      - schedule: {entry['schedule']}\n"
    )


def _api(entry: dict[str, Any]) -> str:
    groups = '{ "Fn::Split": [",", { Ref: ApiSecurityGroupIds }] }'
    return _function(entry, "api") + f"    vpc:\n      <<: *functions\n      securityGroupIds: {groups}\n"


def _function(entry: dict[str, Any], package: str) -> str:
    name = entry["name"]
    first, *rest = name.split("-")
    return (
        f"  {first}{''.join(word.title() for word in rest)}:\n"
        f"    name: zaphub-${{sls:stage}}-{name}\n"
        f"    handler: {entry['handler']}\n"
        f"    timeout: {entry['function_timeout_s']}\n"
        f"    memorySize: {entry['memory_mb']}\n"
        f'    role: {{ "Fn::Sub": {_ROLE}{name}" }}\n'
        "    disableLogs: true\n"
        "    package:\n"
        f"      artifact: dist/{package}-${{param:arch, 'arm64'}}.zip\n"
    )
