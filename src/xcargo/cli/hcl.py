"""Dictionaries as HCL, the language of Terraform and OpenTofu: as much of it as our own resources need."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["Template", "block"]


class Template(str):
    """A text in which ``${reference}`` is filled in. In any other text it stands for itself."""

    __slots__ = ()


def block(*header: str, body: Mapping[str, Any]) -> str:
    """A block with labels. A key ``name {}`` makes a nested block, of a list several.

    A template of only a reference is that reference.
    """
    kind, *labels = header
    return f"{kind} {' '.join(map(json.dumps, labels))} {{\n{_body(body, 1)}}}\n"


def _body(body: Mapping[str, Any], depth: int) -> str:
    indent, text = "  " * depth, ""
    width = max((len(name) for name in body if not name.endswith(" {}")), default=0)
    for name, value in body.items():
        if name.endswith(" {}"):
            for one in value if isinstance(value, list) else [value]:
                text += f"{indent}{name[:-3]} {{\n{_body(one, depth + 1)}{indent}}}\n"
        else:
            text += f"{indent}{name:<{width}} = {_value(value)}\n"
    return text


def _value(value: Any) -> str:
    if isinstance(value, Template):
        alone = re.fullmatch(r"\$\{([^}]*)\}", value)
        return alone[1] if alone else json.dumps(value)
    # Strings, numbers, booleans and lists are written as in JSON.
    return json.dumps(value).replace("${", "$${").replace("%{", "%%{")
