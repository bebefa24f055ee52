"""``xcargo bench``: measures the store and suggests settings."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from xcargo.cli.command import JSON, Argument, Command, Example
from xcargo.cli.output import Output
from xcargo.errors import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xcargo.cli.measure.advice import Advice
    from xcargo.cli.measure.probe import Compressed, Transfer
    from xcargo.model.root import Root

__all__ = ["COMMAND"]

_KIB, _MIB = 1024, 1024 * 1024
_SIZES = (_KIB, 64 * _KIB, _MIB, 8 * _MIB, 32 * _MIB)
_PARTS = (5 * _MIB, 8 * _MIB, 16 * _MIB)
_CONCURRENCY = (4, 8, 16)
_COMPRESSIONS = ("zstd", "lz4", "snappy", "gzip")
_CLOUDS = ("s3", "gs", "az")


def _run(args: argparse.Namespace, out: Output) -> None:
    from xcargo.cli.deployment import read_settings
    from xcargo.cli.measure.advice import advise_compression, advise_split, advise_threshold
    from xcargo.cli.measure.probe import compressions, sample
    from xcargo.model.root import Root

    root = Root.parse(args.path) if args.path else read_settings().root
    if root is None:
        raise ConfigurationError("There is no path to measure", hint="Give one: --path s3://my_conn@my-bucket/xcom")
    by_size, splits = _measure(root, args, out)
    payload = Path(args.sample).read_bytes() if args.sample else sample()
    squeezed = compressions(payload, _COMPRESSIONS)
    advice = [
        advise_threshold(by_size[0]),
        *advise_split(splits),
        advise_compression(squeezed, min((*by_size[-1:], *splits), key=lambda t: t.seconds / t.size_bytes)),
    ]
    if args.plot:
        _plot(by_size, Path(args.plot), str(root))
    if out.json:
        out.print_json(
            {
                "root": str(root),
                "sizes": [asdict(t) for t in by_size],
                "splits": [asdict(t) for t in splits],
                "compressions": [asdict(c) for c in squeezed if c.name != "none"],
                "advice": [asdict(a) for a in advice],
            }
        )
    else:
        _show(root, by_size, splits, squeezed, advice, out)
        if args.plot:
            out.note(f"Plot: {args.plot}")


def _measure(root: Root, args: argparse.Namespace, out: Output) -> tuple[list[Transfer], list[Transfer]]:
    from xcargo.cli.deployment import open_root
    from xcargo.cli.measure.probe import transfer
    from xcargo.stores.base import Limits

    timeout, part, concurrency = 60.0, 8 * _MIB, 16
    sizes = [size for size in _SIZES if size <= args.max_mib * _MIB] or [_KIB]
    large = args.max_mib * _MIB
    # Only what has more than four parts travels in parts.
    grid = [(p, c) for p in _PARTS for c in _CONCURRENCY if 4 * p < large] if root.scheme in _CLOUDS else []
    by_size, splits = [], []
    with out.progress(f"Measuring {root}", total=len(sizes) + len(grid)) as advance:
        whole = open_root(root, Limits(timeout, 1024 * _MIB, 1))  # parts larger than any object: never split
        for size in sizes:
            advance(0, f"{_size(size)} in one piece")
            rounds = 20 if size <= _MIB else 5
            by_size.append(
                transfer(whole, size, part_bytes=size, concurrency=1, rounds=rounds, budget_seconds=args.seconds)
            )
            advance()
        for part, concurrency in grid:
            advance(0, f"{_size(large)} in parts of {_size(part)}, {concurrency} at once")
            store = open_root(root, Limits(timeout, part, concurrency))
            splits.append(
                transfer(store, large, part_bytes=part, concurrency=concurrency, rounds=3, budget_seconds=args.seconds)
            )
            advance()
    return by_size, splits


def _show(
    root: Root,
    by_size: Sequence[Transfer],
    splits: Sequence[Transfer],
    squeezed: Sequence[Compressed],
    advice: Sequence[Advice],
    out: Output,
) -> None:
    out.say(f"{root}", style="bold")
    out.say()
    out.table(
        ("size", "put ms", "get ms", "put MB/s", "get MB/s", ""),
        [
            (
                _size(t.size_bytes),
                f"{t.put_seconds * 1000:.1f}",
                f"{t.get_seconds * 1000:.1f}",
                f"{t.put_mb_per_second:.1f}",
                f"{t.get_mb_per_second:.1f}",
                _bar(t.get_mb_per_second, max(x.get_mb_per_second for x in by_size)),
            )
            for t in by_size
        ],
        right=("size", "put ms", "get ms", "put MB/s", "get MB/s"),
    )
    if splits:
        out.say()
        fastest = max(x.size_bytes / x.seconds for x in splits)
        out.table(
            ("parts of", "at once", "put MB/s", "get MB/s", ""),
            [
                (
                    _size(t.part_bytes),
                    t.concurrency,
                    f"{t.put_mb_per_second:.0f}",
                    f"{t.get_mb_per_second:.0f}",
                    _bar(t.size_bytes / t.seconds, fastest),
                )
                for t in splits
            ],
            right=("parts of", "at once", "put MB/s", "get MB/s"),
        )
    out.say()
    out.table(
        ("compression", "times smaller", "there MB/s", "back MB/s"),
        [
            (c.name, f"{c.ratio:.1f}", f"{c.compress_mb_per_second:.0f}", f"{c.decompress_mb_per_second:.0f}")
            for c in squeezed
            if c.name != "none"
        ],
        right=("times smaller", "there MB/s", "back MB/s"),
    )
    out.say()
    out.say("Suggested for this store, from this machine:", style="bold")
    for item in advice:
        out.say(f"AIRFLOW__XCARGO__{item.option.upper()}={item.value}", style="green")
        out.say(f"    {item.why}")


def _plot(by_size: Sequence[Transfer], path: Path, title: str) -> None:
    """Throughput by size, as PNG or SVG by the file's name."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("A plot needs matplotlib", hint="Run: pip install matplotlib") from None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="object size (bytes)", ylabel="MB/s", xscale="log", yscale="log")
    sizes = [t.size_bytes for t in by_size]
    axes.plot(sizes, [t.put_mb_per_second for t in by_size], marker="o", label="put")
    axes.plot(sizes, [t.get_mb_per_second for t in by_size], marker="s", label="get")
    axes.grid(visible=True, which="major", alpha=0.4)
    axes.legend()
    figure.savefig(path)


def _bar(value: float, most: float, width: int = 24) -> str:
    full, eighths = divmod(round(value / most * width * 8) if most else 0, 8)
    return "█" * full + " ▏▎▍▌▋▊▉"[eighths].strip()


def _size(size_bytes: int) -> str:
    return f"{size_bytes // _MIB} MiB" if size_bytes >= _MIB else f"{size_bytes // _KIB} KiB"


COMMAND = Command(
    name="bench",
    help="measure the store from here and suggest settings",
    description="Puts and gets objects of growing size, large ones in parts of several sizes and several at once, "
    "tries the compressions on a sample, and suggests threshold, part size, concurrency and compression for this "
    "store, seen from this machine. Numbers hold for here and now: run it where tasks run. What it writes below the "
    "path it deletes again.",
    run=_run,
    arguments=(
        JSON,
        Argument("--path", metavar="URL", help="what to measure (default: the configured path)"),
        Argument("--max-mib", type=int, default=64, metavar="MIB", help="largest object (default: 64)"),
        Argument("--seconds", type=float, default=3.0, help="at most so long for one measurement (default: 3)"),
        Argument("--sample", metavar="FILE", help="data like yours, to try compressions on"),
        Argument("--plot", metavar="FILE", help="also draw throughput by size, as .png or .svg (needs matplotlib)"),
    ),
    examples=(
        Example("bench", "measure the configured store"),
        Example("bench --max-mib 256 --plot store.svg", "larger objects, and a plot"),
        Example("bench --sample orders.parquet --json", "with data of your own, for a program"),
    ),
)
