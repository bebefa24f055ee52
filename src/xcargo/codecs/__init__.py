"""Codecs: value <-> payload."""

from xcargo.codecs.base import Buffer, Codec, Encoded
from xcargo.codecs.registry import Registry

__all__ = ["Buffer", "Codec", "Encoded", "Registry"]
