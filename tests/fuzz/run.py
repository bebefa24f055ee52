"""One target under atheris; started by ``python -m tests.fuzz``."""

from __future__ import annotations

import sys
import warnings

import atheris

with atheris.instrument_imports(include=["xcargo"]):
    from .targets import ALLOWED, MAX_BYTES, TARGETS


def main() -> None:
    """Fuzz until libFuzzer's limits."""
    warnings.simplefilter("ignore")
    target = TARGETS[sys.argv.pop(1)]
    for seed in target.seeds():  # what is imported at first use is imported now
        target.run(seed)

    def run(data: bytes) -> None:
        if len(data) > MAX_BYTES:
            return
        try:
            target.run(data)
        except ALLOWED:
            pass
        except ValueError as error:  # text that is no JSON never reaches us
            if type(error).__name__ not in ("JSONDecodeError", "UnicodeDecodeError"):
                raise

    atheris.Setup(sys.argv, run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
