"""As much of JSON Schema as docs/report-schema.json uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
KNOWN = {"$schema", "$defs", "$ref", "title", "description", "type", "properties", "required", "additionalProperties",
         "items", "anyOf", "enum", "const"}  # fmt: skip


def breaches(value: Any, rule: dict[str, Any], root: dict[str, Any], where: str = "$") -> Iterator[str]:
    assert set(rule) <= KNOWN, set(rule) - KNOWN
    if "$ref" in rule:
        yield from breaches(value, root["$defs"][rule["$ref"].split("/")[-1]], root, where)
        return
    if "anyOf" in rule:
        if all(any(True for _ in breaches(value, r, root)) for r in rule["anyOf"]):
            yield f"{where}: fits none of anyOf: {value!r}"
        return
    if ("const" in rule and value != rule["const"]) or ("enum" in rule and value not in rule["enum"]):
        yield f"{where}: {value!r}"
    kind = rule.get("type")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind in ("number", "integer"):
        if not number or (kind == "integer" and value != int(value)):
            yield f"{where}: expected {kind}, got {value!r}"
        return
    if kind and not isinstance(value, TYPES[kind]):
        yield f"{where}: expected {kind}, got {value!r}"
        return
    if kind == "object":
        known = rule.get("properties", {})
        yield from (f"{where}: {key} missing" for key in rule.get("required", ()) if key not in value)
        more = rule.get("additionalProperties", True)
        for key, item in value.items():
            if key in known:
                yield from breaches(item, known[key], root, f"{where}.{key}")
            elif more is False:
                yield f"{where}: unknown {key}"
            elif isinstance(more, dict):
                yield from breaches(item, more, root, f"{where}.{key}")
    if kind == "array" and "items" in rule:
        for i, item in enumerate(value):
            yield from breaches(item, rule["items"], root, f"{where}[{i}]")
