"""Common IO's backend, Airflow's own and xcargo side by side, through the public hooks, over one S3 server.

python -m benchmarks list
python -m benchmarks run                                    # quick: some minutes, without the scheduler
python -m benchmarks run --release                          # what the bars and plots of a release need: 40 minutes
python -m benchmarks run --full                             # everything: an hour or two
python -m benchmarks run warm --payload 'bytes, 100 MB' --rounds 5
python -m benchmarks run peers                              # beside Dagster, Prefect, Metaflow and others
python -m benchmarks run --endpoint https://… --access-key … --secret-key … --bucket …
python -m benchmarks render [FILE …] [--publish]            # tables and plots again, from results on disk
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from benchmarks import bars, plots, publish, tables
from benchmarks.results import FOLDER, Results, header, latest, load
from benchmarks.runner import Runner
from benchmarks.scenarios import SCENARIOS
from benchmarks.store import Endpoint, opened
from benchmarks.trial import Plan, Sample, Trial

ROUNDS = {"quick": 2, "release": 3, "full": 5}


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
    extent = run.add_mutually_exclusive_group()
    extent.add_argument("--release", dest="extent", action="store_const", const="release", help="all bars and plots")
    extent.add_argument("--full", dest="extent", action="store_const", const="full", help="every value and size")
    run.set_defaults(extent="quick")
    run.add_argument("--rounds", type=int, help="default: 2, release: 3, full: 5")
    run.add_argument("--payload", action="append", default=[], metavar="'KIND, SIZE'", help="instead of the usual ones")
    run.add_argument("--latency-ms", type=int, nargs="+", default=[0, 16], help="added to each request; default: 0 16")
    run.add_argument("--subject", action="append", default=[], help="only these")
    run.add_argument("--against", metavar="FOLDER", help="also measure the xcargo package in this folder, as xcargo@…")
    run.add_argument("--server", choices=("quick", "seaweedfs"), default="quick", help="the S3 server to start")
    run.add_argument("--endpoint", metavar="URL", help="an S3 server that runs already, instead")
    run.add_argument("--access-key", default=os.environ.get("AWS_ACCESS_KEY_ID", ""))
    run.add_argument("--secret-key", default=os.environ.get("AWS_SECRET_ACCESS_KEY", ""))
    run.add_argument("--bucket", default="xcom")
    run.add_argument("--region", default=os.environ.get("AWS_REGION", "us-east-1"))
    run.add_argument("--output", type=Path, help="results file; default: a new one in benchmarks/results")
    render = commands.add_parser("render", help="print the tables of results on disk, and draw the plots")
    render.set_defaults(act=_render)
    render.add_argument("files", nargs="*", type=Path, help="default: the youngest")
    render.add_argument(
        "--publish", action="store_true", help="into docs/performance.md (peers: docs/peers.md) and docs/images"
    )
    return parser


def _list(_: argparse.Namespace) -> None:
    for name, module in SCENARIOS.items():
        print(f"{name:10} {(module.__doc__ or '').partition(chr(10))[0]}")


def _run(options: argparse.Namespace) -> None:
    rounds = options.rounds or ROUNDS[options.extent]
    output = options.output or FOLDER / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}.jsonl"
    output.parent.mkdir(parents=True, exist_ok=True)
    endpoint = None
    if options.endpoint:
        keys = options.access_key, options.secret_key
        endpoint = Endpoint(options.endpoint, *keys, options.bucket, options.region)
    plan = Plan(options.extent, tuple(options.payload), tuple(options.latency_ms))
    with output.open("w") as lines:
        lines.write(json.dumps(header(_shown(sys.argv[1:]))) + "\n")
        for server, name, part in _stages(plan, options):
            with ExitStack() as stack:  # a new server each time: one in memory keeps all that was stored
                store = stack.enter_context(opened(endpoint, quick=server == "quick"))
                runner = Runner(store, stack, _tell)
                for sample in _samples(name, part, runner, rounds if part is plan else ROUNDS["quick"], options):
                    lines.write(replace(sample, store=store.name).to_line() + "\n")
                    lines.flush()
                    if sample.note:
                        _tell(f"    {sample.note}")
    _tell(f"Results: {output}")
    _show(load([output]), output.with_suffix(""))


def _stages(plan: Plan, options: argparse.Namespace) -> Iterator[tuple[str, str, Plan]]:
    """Over which server, which scenario, how much of it."""
    left_out = ("ONLY_BY_NAME", "NOT_QUICK") if plan.quick else ("ONLY_BY_NAME",)
    usual = [name for name, module in SCENARIOS.items() if not any(hasattr(module, mark) for mark in left_out)]
    for name in options.scenarios or usual:
        yield options.server, name, plan
    if not plan.quick and not options.scenarios and not options.endpoint and options.server == "quick":
        for name in ("first", "warm", "many"):
            yield "seaweedfs", name, replace(plan, extent="quick")


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
    results = load(files)
    if options.publish:
        drawn = plots.draw(results.on(results.stores()[0]), publish.IMAGES)
        if results.scenarios() == ["peers"]:
            publish.write_peers(results.on(results.stores()[0]))
            _tell(f"Published: {publish.PEERS_PAGE}")
        else:
            publish.write(results, drawn)
            _tell(f"Published: {publish.PAGE}")
    else:
        _show(results, files[-1].with_suffix(""))


def _show(results: Results, folder: Path) -> None:
    """Tables to standard output, plots to the folder."""
    for store in results.stores():
        part = results.on(store)
        print("\n\n".join([f"## {store}", *filter(None, (bars.markdown(part), tables.markdown(part)))]), end="\n\n")
    print(tables.growth(results.on(results.stores()[0])))
    for path in plots.draw(results.on(results.stores()[0]), folder):
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
