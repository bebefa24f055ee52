"""Checks scripts and style sheets with Biome, which npm installs once: `make lint`. With `--write` it mends them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.servers.node import find_node, installed

LOCK = Path(__file__).with_name("package-lock.json")

if __name__ == "__main__":
    node = find_node()
    biome = installed(node, LOCK) / "@biomejs" / "biome" / "bin" / "biome"
    done = subprocess.run([node.program, biome, "check", "--error-on-warnings", *sys.argv[1:]], check=False)
    sys.exit(done.returncode)
