"""Codecs: value <-> payload."""

from xcargo.codecs.base import Codec, Encoded
from xcargo.codecs.registry import Registry
from xcargo.types import Buffer

__all__ = ["Buffer", "Codec", "Encoded", "Registry"]
