"""The release of xcargo. Rows and messages name it."""

__version__ = "0.1.0"
