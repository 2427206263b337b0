"""Secret settings from AWS Secrets Manager: one JSON object of variable to value, read once, when a process starts."""

import json
import re
from typing import Any, Final

from shared.domain.errors import Misconfigured, Unavailable

# arn:aws:secretsmanager:sa-east-1:123456789012:secret:zaphub-prod/functions-AbCdEf
ARN: Final = re.compile(r"^arn:aws[a-z-]*:secretsmanager:(?P<region>[a-z0-9-]+):[0-9]{12}:secret:[\w/+=.@!-]+$")
# Twice these at most, and a function's first invocation has time left to say what is wrong.
_CONNECT_S: Final = 2.0
_READ_S: Final = 5.0
_TRIES: Final = 2
# AWS's own words for "later".
_LATER: Final = frozenset({"ThrottlingException", "TooManyRequestsException", "InternalServiceError"})


def fetch(arn: str) -> dict[str, str]:
    """The secret's values. Blocks for 14 s at most.

    Raises Misconfigured when the role may not read the secret or it is no such object, and Unavailable when
    Secrets Manager does not answer: calling again may help. No error holds anything of the secret.
    """
    # Here, as AWS's client takes a third of a second to load, and most processes have their settings without it.
    from botocore.config import Config  # noqa: PLC0415 - as above
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError  # noqa: PLC0415 - as above
    from botocore.session import get_session  # noqa: PLC0415 - as above

    found = ARN.match(arn)
    assert found is not None, "the settings have checked it"
    config = Config(
        connect_timeout=_CONNECT_S, read_timeout=_READ_S, retries={"total_max_attempts": _TRIES, "mode": "standard"}
    )
    try:
        client = get_session().create_client("secretsmanager", region_name=found["region"], config=config)
        answer = client.get_secret_value(SecretId=arn)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _LATER:
            raise Unavailable(f"Secrets Manager does not answer ({code}).") from error
        raise Misconfigured(f"ZAPHUB_SECRETS_ARN: {arn} cannot be read ({code}).") from error
    except NoCredentialsError as error:
        raise Misconfigured(f"ZAPHUB_SECRETS_ARN: no credentials of AWS to read {arn} with.") from error
    except (BotoCoreError, OSError) as error:
        raise Unavailable(f"Secrets Manager does not answer ({type(error).__name__}).") from error
    return _values(answer.get("SecretString"), arn)


def _values(text: str | None, arn: str) -> dict[str, str]:
    try:
        # A secret in bytes has no text.
        values: Any = json.loads(text or "")
    except ValueError:
        values = None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        # The cause would quote the secret.
        raise Misconfigured(f"ZAPHUB_SECRETS_ARN: {arn} is not a JSON object of names and texts.") from None
    return values
