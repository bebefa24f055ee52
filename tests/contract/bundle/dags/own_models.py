"""A module beside the Dags, which one of them imports."""

from __future__ import annotations

import pydantic


class Address(pydantic.BaseModel):
    street: str
