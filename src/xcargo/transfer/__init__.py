"""Payload to stored object and back: chunks, compression, encryption, the node's cache."""
