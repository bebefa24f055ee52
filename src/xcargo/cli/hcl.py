"""Dictionaries as HCL, the language of Terraform and OpenTofu: as much of it as our own resources need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["block"]


def block(*header: str, body: Mapping[str, Any]) -> str:
    """A block with labels. A key ``name {}`` makes a nested block; the text ``${reference}`` alone is a reference."""
    kind, *labels = header
    return f"{kind} {' '.join(map(json.dumps, labels))} {{\n{_body(body, 1)}}}\n"


def _body(body: Mapping[str, Any], depth: int) -> str:
    indent, text = "  " * depth, ""
    width = max((len(name) for name in body if not name.endswith(" {}")), default=0)
    for name, value in body.items():
        if name.endswith(" {}"):
            text += f"{indent}{name[:-3]} {{\n{_body(value, depth + 1)}{indent}}}\n"
        else:
            text += f"{indent}{name:<{width}} = {_value(value)}\n"
    return text


def _value(value: Any) -> str:
    if isinstance(value, str) and value.startswith("${") and value.endswith("}") and value.count("${") == 1:
        return value[2:-1]
    return json.dumps(value)  # strings, numbers, booleans and lists are written as in JSON
