"""``python -m xcargo``: the command, where no ``xcargo`` is on the path."""

from __future__ import annotations

import sys

from xcargo.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
