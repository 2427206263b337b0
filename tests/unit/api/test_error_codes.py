"""Every code that the door gives is explained, and the page explains none twice."""

import re
from pathlib import Path

_ROOT = Path(__file__).parents[3]
_CODE = re.compile(r'"([A-Z][A-Z]+(?:_[A-Z]+)+|UNAUTHORIZED|FORBIDDEN|UNAVAILABLE|INTERNAL)"')


def _explained() -> list[str]:
    return re.findall(r"^\| `([A-Z_]+)` \|", (_ROOT / "docs/errors.md").read_text(), flags=re.MULTILINE)


def test_each_code_of_the_door_is_explained_once() -> None:
    explained = _explained()
    # The compatible doors speak in the words of others.
    ours = [path for path in (_ROOT / "api").rglob("*.py") if "compat" not in path.parts]
    given = {code for path in ours for code in _CODE.findall(path.read_text())}

    assert len(set(explained)) == len(explained)
    of_deliveries = set(re.findall(r"^\| `([A-Z_]+)` \|", (_ROOT / "docs/webhooks.md").read_text(), flags=re.MULTILINE))
    assert given <= set(explained) | of_deliveries, given - set(explained) - of_deliveries
    assert "VALIDATION_ERROR" in given


def test_the_contract_s_codes_are_explained() -> None:
    contract = {
        *("VALIDATION_ERROR", "UNAUTHORIZED", "FORBIDDEN", "NOT_FOUND", "INVALID_STATE", "IDEMPOTENCY_CONFLICT"),
        *("RATE_LIMITED", "UNAVAILABLE", "QR_NOT_READY", "ALREADY_CONNECTED", "PAIRING_EXPIRED", "PASSKEY_REQUIRED"),
        *("CONNECTION_OFFLINE", "CONNECTION_LOGGED_OUT", "CONNECTION_REPLACED", "CONNECTION_BANNED"),
        *("CLIENT_OUTDATED", "HOST_UNREACHABLE", "NUMBER_NOT_ON_WHATSAPP", "CHAT_RESTRICTED", "RATE_OVERLIMIT"),
        *("MEDIA_FETCH_FAILED", "MEDIA_TOO_LARGE", "WEBHOOK_TARGET_FORBIDDEN"),
    }

    assert contract <= set(_explained())
