"""The provider itself, as Terraform starts it: `serve.py SCHEMA` serves that schema, and accepts every value.

It runs in an environment of its own, with the PyPI package `tf`, and imports nothing of ours.
"""

import json
import sys
from pathlib import Path
from typing import Any

import tf.provider
import tf.runner
from tf.gen import tfplugin_pb2 as messages
from tf.gen import tfplugin_pb2_grpc as rpc

_NESTED_BLOCK = messages.Schema.NestedBlock
_OBJECT = messages.Schema.Object
# `write_only` is field 11 of an Attribute since protocol 6.8; the package's own messages do not know it yet.
_WRITE_ONLY = b"\x58\x01"


def _attribute(name: str, spec: dict[str, Any]) -> Any:
    flags = {
        "name": name,
        "required": spec["required"],
        "optional": not spec["required"] and spec.get("write_only") is not None,
        "computed": spec["computed"] and not spec.get("write_only", False),
    }
    if "nested" in spec:
        inner = [_attribute(key, value) for key, value in spec["nested"]["attributes"].items()]
        nested = _OBJECT(attributes=inner, nesting=getattr(_OBJECT, spec["nesting"].upper()))
        return messages.Schema.Attribute(nested_type=nested, **flags)
    attribute = messages.Schema.Attribute(type=json.dumps(spec["type"]).encode(), **flags)
    if spec.get("write_only"):
        attribute = messages.Schema.Attribute.FromString(attribute.SerializeToString() + _WRITE_ONLY)
    return attribute


def _nested(name: str, spec: dict[str, Any]) -> Any:
    is_many = spec["nesting"] in {"list", "set"}
    return _NESTED_BLOCK(
        type_name=name,
        block=_block(spec["block"], is_top=False),
        nesting=getattr(_NESTED_BLOCK, spec["nesting"].upper()),
        min_items=spec["min"] if is_many else 0,
        max_items=spec["max"] if is_many else 0,
    )


def _block(spec: dict[str, Any], *, is_top: bool) -> Any:
    for attribute in spec["attributes"].values():
        # Terraform allows a dynamic type at the top only.
        if attribute.get("type") == "dynamic" and not is_top:
            attribute["type"] = "string"
    return messages.Schema.Block(
        attributes=[_attribute(name, one) for name, one in spec["attributes"].items()],
        block_types=[_nested(name, one) for name, one in spec["blocks"].items()],
    )


def _schema(spec: dict[str, Any]) -> Any:
    return messages.Schema(version=0, block=_block(spec, is_top=True))


class _Servicer(rpc.ProviderServicer):
    def __init__(self, _app: object) -> None:
        self._spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))

    def GetMetadata(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol's names
        return messages.GetMetadata.Response()

    def GetProviderSchema(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        provider = self._spec["provider"]["aws"]
        for attribute in provider["attributes"].values():
            attribute["computed"] = False
        return messages.GetProviderSchema.Response(
            provider=_schema(provider),
            provider_meta=_schema({"attributes": {}, "blocks": {}}),
            resource_schemas={name: _schema(one) for name, one in self._spec["resource"].items()},
            data_source_schemas={name: _schema(one) for name, one in self._spec["data"].items()},
        )

    def ValidateProviderConfig(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return messages.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return messages.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return messages.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return messages.ConfigureProvider.Response()

    def StopProvider(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return messages.StopProvider.Response()


class _Provider:
    def full_name(self) -> str:
        return "registry.terraform.io/hashicorp/aws"


if __name__ == "__main__":
    tf.provider.ProviderServicer = _Servicer
    tf.runner.run_provider(_Provider(), sys.argv[:1])
