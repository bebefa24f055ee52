"""``xcargo bench``: measures the store from here and suggests settings."""

from __future__ import annotations

import argparse
import secrets
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xcargo.cli.command import JSON, Argument, Command, Example, at_least
from xcargo.errors import ConfigurationError, MissingDependencyError
from xcargo.transfer.reporting import format_bytes

if TYPE_CHECKING:
    from xcargo.cli.command import Output
    from xcargo.model.root import Root
    from xcargo.stores.base import Limits, Store

__all__ = ["COMMANDS", "Advice", "Compressed", "Transfer", "advise_compression", "advise_split", "advise_threshold"]

_KIB, _MIB = 1024, 1024 * 1024
_SIZES = (_KIB, 64 * _KIB, _MIB, 8 * _MIB, 32 * _MIB)
_PARTS = (5 * _MIB, 8 * _MIB, 16 * _MIB)
_CONCURRENCY = (4, 8, 16)
_COMPRESSIONS = ("zstd", "lz4", "snappy", "gzip")
_CLOUDS = ("s3", "gs", "az")
_TIMEOUT_SECONDS = 60.0

_NEARLY_BEST = 1.10
"""What is no more than a tenth slower counts as equal, and the more modest is chosen."""
_THRESHOLDS = ((0.020, 1024), (0.100, 16 * 1024), (float("inf"), 64 * 1024))
"""Seconds that a small object takes there and back at most -> the threshold that suits such a store."""


@dataclass(frozen=True)
class Transfer:
    """Puts and gets of objects of one size, with one way to split them. Seconds are of the median one."""

    size_bytes: int
    part_bytes: int
    concurrency: int
    put_seconds: float
    get_seconds: float
    rounds: int

    @property
    def put_mb_per_second(self) -> float:
        return self.size_bytes / self.put_seconds / 1e6

    @property
    def get_mb_per_second(self) -> float:
        return self.size_bytes / self.get_seconds / 1e6

    @property
    def seconds(self) -> float:
        """There and back."""
        return self.put_seconds + self.get_seconds


@dataclass(frozen=True)
class Compressed:
    """What a compression made of the sample."""

    name: str
    ratio: float
    """Size before by size after."""
    compress_mb_per_second: float
    decompress_mb_per_second: float


@dataclass(frozen=True)
class Advice:
    """A setting and why."""

    option: str
    value: str
    why: str


def _run(args: argparse.Namespace, out: Output) -> None:
    from xcargo.cli.deployment import read_settings
    from xcargo.model.root import Root

    root = Root.parse(args.path) if args.path else read_settings().root
    if root is None:
        raise ConfigurationError("There is no path to measure", hint="Give one: --path s3://my_conn@my-bucket/xcom")
    payload = Path(args.sample).read_bytes() if args.sample else sample()
    if not payload:
        raise ConfigurationError("The sample is empty", where=args.sample)
    sizes, splits = _measure(root, args, out)
    compressions = measure_compressions(payload, _COMPRESSIONS)
    fastest = min((*sizes[-1:], *splits), key=lambda t: t.seconds / t.size_bytes)
    advice = [advise_threshold(sizes[0]), *advise_split(splits), advise_compression(compressions, fastest)]
    tried = [c for c in compressions if c.name != "none"]
    if out.json:
        measured = {"sizes": sizes, "splits": splits, "compressions": tried, "advice": advice}
        out.print_json({"root": str(root), **measured})
    else:
        out.say(f"{root}\n", style="bold")
        _show_transfers(sizes, splits, out)
        _show_advice(tried, advice, out)
    if args.plot:
        _plot(sizes, Path(args.plot), title=str(root))
        out.note(f"Plot: {args.plot}")


# --- measuring -------------------------------------------------------------------------------------------------------


def _measure(root: Root, args: argparse.Namespace, out: Output) -> tuple[list[Transfer], list[Transfer]]:
    """Objects of growing size, each in one request; and the largest in parts, where stores take parts."""
    from xcargo.cli.deployment import open_root
    from xcargo.stores.base import Limits

    largest = args.max_mib * _MIB
    sizes = [size for size in _SIZES if size <= largest] or [_KIB]
    # Only what has more than four parts travels in parts.
    grid = [(part, n) for part in _PARTS for n in _CONCURRENCY if 4 * part < largest] if root.scheme in _CLOUDS else []
    by_size, splits = [], []
    with out.progress(f"Measuring {root}", total=len(sizes) + len(grid)) as advance:
        store = open_root(root, Limits(_TIMEOUT_SECONDS, 1024 * _MIB, 1))  # parts larger than any object: never split
        for size in sizes:
            advance(0, f"{format_bytes(size)} in one request")
            by_size.append(measure(store, Limits(_TIMEOUT_SECONDS, size, 1), size, budget_seconds=args.seconds))
            advance()
        for part, concurrency in grid:
            advance(0, f"{format_bytes(largest)} in parts of {format_bytes(part)}, {concurrency} at once")
            limits = Limits(_TIMEOUT_SECONDS, part, concurrency)
            splits.append(measure(open_root(root, limits), limits, largest, budget_seconds=args.seconds))
            advance()
    return by_size, splits


def measure(store: Store, limits: Limits, size_bytes: int, *, budget_seconds: float) -> Transfer:
    """Put and get new objects of random bytes until the budget is spent, once at least. What it wrote is deleted."""
    from xcargo.lifecycle.plan import scratch_coordinate
    from xcargo.stores.base import get_in_parts

    data = secrets.token_bytes(min(size_bytes, _MIB))
    data = (data * (size_bytes // len(data) + 1))[:size_bytes]
    rounds = 20 if size_bytes <= _MIB else 5 if size_bytes <= _SIZES[-1] else 3
    puts: list[float] = []
    gets: list[float] = []
    keys: list[str] = []
    started = time.perf_counter()
    try:
        while len(puts) < rounds and (not puts or time.perf_counter() - started < budget_seconds):
            keys.append(scratch_coordinate("bench").object_key(suffix=".bin"))
            with _timed(puts):
                store.put(keys[-1], [data])
            with _timed(gets):
                if limits.part_bytes < size_bytes:
                    get_in_parts(store, keys[-1], size_bytes, limits=limits)
                else:
                    store.get(keys[-1])
    finally:
        store.delete(keys)
    put_seconds, get_seconds = statistics.median(puts), statistics.median(gets)
    return Transfer(size_bytes, limits.part_bytes, limits.max_concurrency, put_seconds, get_seconds, rounds=len(puts))


def measure_compressions(payload: bytes, names: Iterable[str]) -> list[Compressed]:
    """How fast and how small each compression is on this payload."""
    from xcargo.transfer.compression import compress, decompress

    results = [Compressed("none", 1.0, float("inf"), float("inf"))]
    for name in names:
        compressed = compress(name, payload)
        compressing: list[float] = []
        decompressing: list[float] = []
        for _ in range(3):
            with _timed(compressing):
                compress(name, payload)
            with _timed(decompressing):
                decompress(name, compressed, len(payload))
        mb = len(payload) / 1e6
        results.append(Compressed(name, len(payload) / len(compressed), mb / min(compressing), mb / min(decompressing)))
    return results


def sample(size_bytes: int = 2_000_000) -> bytes:
    """What tasks often pass on: rows of a table, with numbers, times, words and identifiers, as text."""
    import random

    dice = random.Random(7)  # noqa: S311 - the same sample for everyone
    words = ["paid", "open", "refunded", "shipped", "returned", "Hamburg", "Lyon", "Kraków", "EUR", "USD"]
    lines: list[str] = []
    length = 0
    while length < size_bytes:
        lines.append(
            f"{dice.getrandbits(48):012x},2024-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}T"
            f"{dice.randint(0, 23):02}:{dice.randint(0, 59):02}:00Z,{dice.choice(words)},{dice.choice(words)},"
            f"{dice.gauss(100, 30):.2f}\n"
        )
        length += len(lines[-1])
    return "".join(lines).encode()[:size_bytes]


@contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - started)


# --- measurements -> settings ----------------------------------------------------------------------------------------


def advise_threshold(small: Transfer) -> Advice:
    """From the time that the smallest object takes there and back.

    A rule of thumb: up to 20 ms the default serves; a slower store makes it worth while to leave more in the database.
    """
    value = next(size for most, size in _THRESHOLDS if small.seconds <= most)
    return Advice("threshold_bytes", str(value), f"a small object takes {small.seconds * 1000:.1f} ms there and back")


def advise_split(transfers: Sequence[Transfer]) -> list[Advice]:
    """Part size and concurrency of the fastest large transfer; among equals fewer requests at once, larger parts."""
    if not transfers:
        return []
    best = min(t.seconds for t in transfers)
    good = [t for t in transfers if t.seconds <= best * _NEARLY_BEST]
    chosen = min(good, key=lambda t: (t.concurrency, -t.part_bytes))
    speed = f"go at {chosen.put_mb_per_second:.0f} MB/s and come at {chosen.get_mb_per_second:.0f} MB/s"
    return [
        Advice("part_bytes", str(chosen.part_bytes), f"{chosen.size_bytes / 1e6:.0f} MB {speed}"),
        Advice("max_concurrency", str(chosen.concurrency), "the least that is as fast"),
    ]


def advise_compression(candidates: Sequence[Compressed], large: Transfer) -> Advice:
    """The compression with which a large value is there and back soonest; among equals the smallest object."""

    def seconds_per_mb(compressed: Compressed) -> float:
        return (
            1 / compressed.compress_mb_per_second
            + 1 / compressed.decompress_mb_per_second
            + (1 / large.put_mb_per_second + 1 / large.get_mb_per_second) / compressed.ratio
        )

    best = min(map(seconds_per_mb, candidates))
    chosen = max((c for c in candidates if seconds_per_mb(c) <= best * _NEARLY_BEST), key=lambda c: c.ratio)
    why = f"{1 / seconds_per_mb(chosen):.0f} MB/s there and back, objects {chosen.ratio:.1f} times smaller"
    return Advice("compression", chosen.name, why)


# --- showing ---------------------------------------------------------------------------------------------------------


def _show_transfers(sizes: Sequence[Transfer], splits: Sequence[Transfer], out: Output) -> None:
    speeds = ("put MB/s", "get MB/s")
    best = max(t.get_mb_per_second for t in sizes)
    out.table(
        ("size", "put ms", "get ms", *speeds, ""),
        [
            (
                format_bytes(t.size_bytes),
                f"{t.put_seconds * 1000:.1f}",
                f"{t.get_seconds * 1000:.1f}",
                f"{t.put_mb_per_second:.1f}",
                f"{t.get_mb_per_second:.1f}",
                _bar(t.get_mb_per_second / best),
            )
            for t in sizes
        ],
        right=("size", "put ms", "get ms", *speeds),
    )
    out.say()
    if not splits:
        return
    fastest = min(t.seconds for t in splits)
    out.table(
        ("parts of", "at once", *speeds, ""),
        [
            (
                format_bytes(t.part_bytes),
                t.concurrency,
                f"{t.put_mb_per_second:.0f}",
                f"{t.get_mb_per_second:.0f}",
                _bar(fastest / t.seconds),
            )
            for t in splits
        ],
        right=("parts of", "at once", *speeds),
    )
    out.say()


def _show_advice(tried: Sequence[Compressed], advice: Sequence[Advice], out: Output) -> None:
    out.table(
        ("compression", "times smaller", "there MB/s", "back MB/s"),
        [
            (c.name, f"{c.ratio:.1f}", f"{c.compress_mb_per_second:.0f}", f"{c.decompress_mb_per_second:.0f}")
            for c in tried
        ],
        right=("times smaller", "there MB/s", "back MB/s"),
    )
    out.say("\nSuggested for this store, from this machine:", style="bold")
    for item in advice:
        out.say(f"AIRFLOW__XCARGO__{item.option.upper()}={item.value}", style="green")
        out.say(f"    {item.why}")


def _bar(share: float, width: int = 24) -> str:
    full, eighths = divmod(round(share * width * 8), 8)
    return "█" * full + " ▏▎▍▌▋▊▉"[eighths].strip()


def _plot(sizes: Sequence[Transfer], path: Path, *, title: str) -> None:
    """Throughput by size, as PNG or SVG by the file's name."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("A plot needs matplotlib", hint="Run: pip install matplotlib") from None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="object size (bytes)", ylabel="MB/s", xscale="log", yscale="log")
    x = [t.size_bytes for t in sizes]
    axes.plot(x, [t.put_mb_per_second for t in sizes], marker="o", label="put")
    axes.plot(x, [t.get_mb_per_second for t in sizes], marker="s", label="get")
    axes.grid(visible=True, which="major", alpha=0.4)
    axes.legend()
    try:
        figure.savefig(path)
    except ValueError as error:  # the ending of the name
        raise ConfigurationError(f"The plot cannot be drawn: {error}", where=path) from None


COMMANDS = (
    Command(
        name="bench",
        help="measure the store from here and suggest settings",
        description="Puts and gets objects of growing size, large ones in parts of several sizes and with several "
        "requests at once, tries the compressions on a sample, and suggests threshold, part size, concurrency and "
        "compression for this store as seen from this machine. The numbers apply to the machine and the time of the "
        "measurement: run it where tasks run. The objects that it writes below the path are deleted again.",
        run=_run,
        arguments=(
            JSON,
            Argument("--path", metavar="URL", help="what to measure (default: the configured path)"),
            Argument("--max-mib", type=at_least(1), default=64, metavar="MIB", help="largest object (default: 64)"),
            Argument("--seconds", type=float, default=3.0, help="longest time for one measurement (default: 3)"),
            Argument("--sample", metavar="FILE", help="a file with data like yours, to try compressions on"),
            Argument("--plot", metavar="FILE", help="also draw throughput by size, as .png or .svg (needs matplotlib)"),
        ),
        examples=(
            Example("bench", "measure the configured store"),
            Example("bench --max-mib 256 --plot store.svg", "larger objects, and a plot"),
            Example("bench --sample orders.parquet --json", "with data of your own, for a program"),
        ),
    ),
)
