"""Common IO's backend, Airflow's own and xcargo side by side, through the public hooks, over one S3 server.

python -m benchmarks list
python -m benchmarks run                                    # quick: some minutes, without the scheduler
python -m benchmarks run --full                             # everything: an hour or two
python -m benchmarks run warm --payload 'bytes, 100 MB' --rounds 5
python -m benchmarks run --endpoint https://… --access-key … --secret-key … --bucket …
python -m benchmarks render [FILE …] [--publish]            # tables and plots again, from results on disk
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from benchmarks import bars, plots, tables
from benchmarks.results import FOLDER, Results, header, latest, load
from benchmarks.runner import Runner
from benchmarks.scenarios import SCENARIOS
from benchmarks.store import Endpoint, opened
from benchmarks.trial import Plan, Sample, Trial

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


def main() -> None:
    """Do what the command line says."""
    options = _parser().parse_args()
    options.act(options)


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=shape)
    commands = parser.add_subparsers(required=True)
    listing = commands.add_parser("list", help="say what scenarios there are")
    listing.set_defaults(act=_list)
    run = commands.add_parser("run", help="measure, and print the tables")
    run.set_defaults(act=_run)
    run.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], metavar="SCENARIO", help="default: all")
    run.add_argument("--full", action="store_true", help="every value and size")
    run.add_argument("--rounds", type=int, help="default: 2, full: 5")
    run.add_argument("--payload", action="append", default=[], metavar="'KIND, SIZE'", help="instead of the usual ones")
    run.add_argument("--latency-ms", type=int, nargs="+", default=[0, 16], help="added to each request; default: 0 16")
    run.add_argument("--subject", action="append", default=[], help="only these")
    run.add_argument("--against", metavar="FOLDER", help="also measure the xcargo package in this folder, as xcargo@…")
    run.add_argument("--endpoint", metavar="URL", help="an S3 server instead of SeaweedFS on loopback")
    run.add_argument("--access-key", default=os.environ.get("AWS_ACCESS_KEY_ID", ""))
    run.add_argument("--secret-key", default=os.environ.get("AWS_SECRET_ACCESS_KEY", ""))
    run.add_argument("--bucket", default="xcom")
    run.add_argument("--region", default=os.environ.get("AWS_REGION", "us-east-1"))
    run.add_argument("--output", type=Path, help="results file; default: a new one in benchmarks/results")
    render = commands.add_parser("render", help="print the tables of results on disk, and draw the plots")
    render.set_defaults(act=_render)
    render.add_argument("files", nargs="*", type=Path, help="default: the youngest")
    render.add_argument("--publish", action="store_true", help="plots into docs/images, not beside the results")
    return parser


def _list(_: argparse.Namespace) -> None:
    for name, module in SCENARIOS.items():
        print(f"{name:10} {(module.__doc__ or '').partition(chr(10))[0]}")


def _run(options: argparse.Namespace) -> None:
    plan = Plan(options.full, tuple(options.payload), tuple(options.latency_ms))
    rounds = options.rounds or (5 if options.full else 2)
    output = options.output or FOLDER / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}.jsonl"
    output.parent.mkdir(parents=True, exist_ok=True)
    endpoint = None
    if options.endpoint:
        keys = options.access_key, options.secret_key
        endpoint = Endpoint(options.endpoint, *keys, options.bucket, options.region)
    with ExitStack() as stack:
        store = stack.enter_context(opened(endpoint))
        runner = Runner(store, stack, _tell)
        lines = stack.enter_context(output.open("w"))
        lines.write(json.dumps(header(store.name, _shown(sys.argv[1:]))) + "\n")
        for name in options.scenarios or _usual(options.full):
            for sample in _samples(name, plan, runner, rounds, options):
                lines.write(sample.to_line() + "\n")
                lines.flush()
                if sample.note:
                    _tell(f"    {sample.note}")
    _show(load([output]), output.with_suffix(""))
    _tell(f"Results: {output}")


def _usual(full: bool) -> list[str]:
    return [name for name, module in SCENARIOS.items() if full or not getattr(module, "ONLY_FULL", False)]


def _samples(name: str, plan: Plan, runner: Runner, rounds: int, options: argparse.Namespace) -> Iterable[Sample]:
    module = SCENARIOS[name]
    if hasattr(module, "samples"):
        return module.samples(plan, runner.store, rounds, _tell)  # type: ignore[no-any-return]
    return runner.run(name, _chosen(module.trials(plan), options), rounds)


def _chosen(trials: Iterable[Trial], options: argparse.Namespace) -> list[Trial]:
    """The trials of the wanted subjects; with ``--against``, what xcargo does is done by that one too."""
    chosen = []
    for trial in trials:
        if not options.subject or trial.subject in options.subject:
            chosen.append(trial)
            if options.against and trial.subject == "xcargo":
                chosen.append(replace(trial, subject=f"xcargo@{options.against}"))
    return chosen


def _render(options: argparse.Namespace) -> None:
    files = options.files or [latest()]
    _show(load(files), IMAGES if options.publish else files[-1].with_suffix(""))


def _show(results: Results, folder: Path) -> None:
    """Tables to standard output, plots to the folder."""
    print("\n\n".join(filter(None, (bars.markdown(results), tables.markdown(results)))))
    for path in plots.draw(results, folder):
        _tell(f"Plot: {path}")


def _shown(arguments: list[str]) -> list[str]:
    """The command line without the secret."""
    hidden = list(arguments)
    for place, word in enumerate(hidden):
        if word.startswith(("--secret-key=", "--access-key=")):
            hidden[place] = word.partition("=")[0] + "=…"
        elif place and hidden[place - 1] in ("--secret-key", "--access-key"):
            hidden[place] = "…"
    return hidden


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
