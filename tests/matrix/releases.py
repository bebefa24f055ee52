"""The Airflow releases that xcargo promises to work with, and what each needs beside itself.

A release of Airflow bounds few of its dependencies from above, so one that is some months old no longer works with
what a package index gives today. Airflow publishes constraint files against that; they are not on a package index, so
this table holds the least that each release needs instead. Each pin was found by leaving it out.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RELEASES", "Release", "select"]

Minor = tuple[int, int]


@dataclass(frozen=True)
class Release:
    """One row of the matrix."""

    airflow: str
    oldest_python: Minor
    newest_python: Minor
    pins: tuple[str, ...] = ()
    """Requirements that the newest version of a dependency breaks without."""
    label: str = ""
    """Tells an environment that holds more than the matrix needs from that of the matrix."""

    def runs_on(self, python: Minor) -> bool:
        """Whether this Airflow supports that Python."""
        return self.oldest_python <= python <= self.newest_python

    @property
    def pythons(self) -> str:
        """The supported Pythons, to show."""
        oldest, newest = (".".join(map(str, minor)) for minor in (self.oldest_python, self.newest_python))
        return f"{oldest} to {newest}"


RELEASES = (
    Release(
        "2.9.2",
        (3, 10),
        (3, 12),
        # universal-pathlib 0.3 calls ObjectStoragePath incompatible with every protocol: TypeError at first use.
        pins=("universal-pathlib<0.3",),
    ),
    Release(
        "2.10.5",
        (3, 10),
        (3, 12),
        # As on 2.9.
        pins=("universal-pathlib<0.3",),
    ),
    Release("2.11.2", (3, 10), (3, 12)),
    Release(
        "3.0.6",
        (3, 10),
        (3, 12),
        pins=(
            # As on 2.9.
            "universal-pathlib<0.3",
            # FastAPI 0.165 takes no body that this release's task client sends for JSON: validation error, no task
            # starts. 0.131 and 0.132 fail at import with every cadwyn that goes with them. 3.1's own bound.
            "fastapi<0.118",
        ),
    ),
    Release("3.1.8", (3, 10), (3, 13)),
    Release(
        "3.2.2",
        (3, 10),
        (3, 14),
        pins=(
            # Later ones no longer take the execution API's TITerminalStatePayload: PydanticUserError at the first
            # task. 3.3's own bound.
            "fastapi<0.137",
            # 26.2 takes its registry out of the app when the lifespan's owner is collected, as dag.test() lets
            # happen: AttributeError, no task starts.
            "svcs<26.2",
        ),
    ),
    Release("3.3.2", (3, 10), (3, 14)),
    Release("3.4.0b2", (3, 11), (3, 14)),
)


def select(names: list[str]) -> list[Release]:
    """The releases that the names stand for, in the table's order; ``3.3`` means ``3.3.2``, nothing means all.

    Raises LookupError for a name that stands for none.
    """
    for name in names:
        if not any(_stands_for(name, release) for release in RELEASES):
            known = ", ".join(release.airflow for release in RELEASES)
            raise LookupError(f"{name!r} is no release of the matrix; there are {known}")
    return [release for release in RELEASES if not names or any(_stands_for(name, release) for name in names)]


def _stands_for(name: str, release: Release) -> bool:
    return f"{release.airflow}.".startswith(f"{name}.")
