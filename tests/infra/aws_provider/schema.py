"""The AWS provider's schema, read out of the generated code of the npm package `@cdktf/provider-aws`.

Only names, types, nesting and what is required can be read there; values are checked by the real provider alone. The
result is never committed: the package is under the MPL-2.0, and its version is pinned where it is fetched.
"""

import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

Block = dict[str, Any]

_PRIMITIVE: Final = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
# One entry of a `synthesizeHclAttributes` or a `…ToHclTerraform` function.
_ENTRY: Final = re.compile(
    r"^ +(?P<name>\w+): \{\n\s+value: (?P<value>.*?),\n\s+isBlock: (?:true|false),\n"
    r"(?:\s+type: \"(?P<kind>\w+)\",\n\s+storageClassType: \"(?P<storage>\w+)\",\n)?",
    re.MULTILINE,
)
# The comment before an attribute's accessors.
_FLAGS: Final = re.compile(r"// (\w+) - computed: (true|false), optional: (true|false), required: (true|false)")
_NESTED: Final = re.compile(r"(\w+)ToHclTerraform")
_COLLECTION: Final = re.compile(r"(string|number|boolean|any)((?:List|Map)+)")
_COMPUTED_TYPE: Final[Mapping[str, Any]] = {
    "String": "string",
    "Number": "number",
    "Boolean": "bool",
    "List": ["list", "string"],
    "StringMap": ["map", "string"],
    "NumberMap": ["map", "number"],
    "AnyMap": ["map", "string"],
}


def read(package: Path, *, resources: Iterable[str], data: Iterable[str]) -> dict[str, dict[str, Block]]:
    """The provider's own schema and those of the named types. Raises KeyError for a type that the package lacks."""
    of_resource = {type_.removeprefix("aws_").replace("_", "-"): type_ for type_ in resources}
    of_data = {"data-" + type_.replace("_", "-"): type_ for type_ in data}
    texts = _texts(package, {"provider", *of_resource, *of_data})
    return {
        "provider": {"aws": _Source(texts["provider"]).block("AwsProviderConfig")},
        "resource": {type_: _Source(texts[folder]).block() for folder, type_ in of_resource.items()},
        "data": {type_: _Source(texts[folder]).block() for folder, type_ in of_data.items()},
    }


def _texts(package: Path, folders: set[str]) -> Mapping[str, Mapping[str, str]]:
    """The files of these folders by name, in one pass: an archive cannot be read backwards."""
    texts: dict[str, dict[str, str]] = {}
    with tarfile.open(package, mode="r|gz") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if path.parent.name in folders and path.parts[:2] == ("package", "lib"):
                file = archive.extractfile(member)
                assert file is not None, "the package holds files"
                texts.setdefault(path.parent.name, {})[path.name] = file.read().decode()
    return texts


class _Source:
    """The code of one type: a folder of the package."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._js = files["index.js"]
        self._types = files["index.d.ts"]

    def block(self, config: str | None = None) -> Block:
        """The top block of the type."""
        found = re.search(r"class (\w+) extends cdktf\.Terraform(?:Resource|DataSource|Provider)", self._js)
        assert found is not None, "the package's layout has changed"
        body = self._js[found.start() :]
        entries = body[body.index("synthesizeHclAttributes") :]
        return self._body(config or f"{found[1]}Config", accessors=body, entries=entries)

    def _struct(self, function: str) -> Block:
        entries = _until(
            self._js, self._js.index(f"function {function}ToHclTerraform("), r"\n(?:function|class|exports|let) "
        )
        interface = function[0].upper() + function[1:]
        at = self._js.find(f"class {interface}OutputReference ")
        accessors = _until(self._js, at, r"\n(?:class|function) ") if at >= 0 else ""
        return self._body(interface, accessors=accessors, entries=entries)

    def _body(self, interface: str, *, accessors: str, entries: str) -> Block:
        required = self._required(interface)
        attributes: dict[str, Any] = {}
        blocks: dict[str, Any] = {}
        for entry in _ENTRY.finditer(entries):
            camel = re.search(r"(?:this\._|struct!?\.)(\w+)", entry["value"])
            needed = camel is not None and camel[1] in required
            self._add(entry, needed=needed, attributes=attributes, blocks=blocks)
        for name, computed, optional, needed_ in _FLAGS.findall(accessors):
            is_output = (computed, optional, needed_) == ("true", "false", "false")
            if is_output and name not in attributes and name not in blocks:
                attributes[name] = {"type": _output_type(accessors, name), "required": False, "computed": True}
        return {"attributes": attributes, "blocks": blocks}

    def _add(self, entry: re.Match[str], *, needed: bool, attributes: dict[str, Any], blocks: dict[str, Any]) -> None:
        name, value, kind = entry["name"], entry["value"], entry["kind"]
        flags = {"required": needed, "computed": not needed, "write_only": name.endswith("_wo")}
        type_ = _type(kind, entry["storage"])
        nested = _NESTED.search(value.replace("listMapperHcl(", ""))
        if type_ is not None:
            attributes[name] = {"type": type_, **flags}
        elif nested is None:
            attributes[name] = {"type": "dynamic", **flags}
        elif "listMapperHcl" in value and re.search(r"ToHclTerraform, false\)", value):
            attributes[name] = {"nested": self._struct(nested[1]), "nesting": kind, **flags}
        else:
            is_one = "listMapper" not in value and kind in {"list", "set"}
            blocks[name] = {
                "block": self._struct(nested[1]),
                "nesting": "single" if kind == "struct" else kind,
                "min": int(needed and kind != "struct"),
                "max": int(is_one),
            }

    def _required(self, interface: str) -> set[str]:
        found = re.search(rf"export interface {interface}(?: extends [\w.]+)? \{{(.*?)\n\}}", self._types, re.DOTALL)
        return set(re.findall(r"^ {4}readonly (\w+): ", found[1], re.MULTILINE)) if found else set()


def _type(kind: str | None, storage: str | None) -> Any:
    if kind is None or storage is None:
        return None
    if kind == "simple":
        return _PRIMITIVE[storage]
    found = _COLLECTION.fullmatch(storage)
    if found is None:
        return None
    type_: Any = _PRIMITIVE[found[1]]
    parts = re.findall("List|Map", found[2])
    for index, part in enumerate(parts):
        is_set = kind == "set" and index == len(parts) - 1
        type_ = [{"List": "set" if is_set else "list", "Map": "map"}[part], type_]
    return type_


def _output_type(accessors: str, name: str) -> Any:
    pattern = rf"get \w+\(\) \{{\s+return (?:cdktf\.\w+\.\w+\()*this\.get(\w+?)Attribute\('{name}'\)"
    found = re.search(pattern, accessors)
    return _COMPUTED_TYPE.get(found[1], "dynamic") if found else "dynamic"


def _until(text: str, start: int, pattern: str) -> str:
    end = re.search(pattern, text[start + 10 :])
    return text[start : start + 10 + end.start()] if end else text[start:]
