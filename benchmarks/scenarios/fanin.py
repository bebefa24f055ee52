"""A task pulls the results of mapped tasks: all at once, by iteration and by slice. Its process is a fresh one.

The rows come from a stand-in for Airflow's supervisor, which answers at once: what the metadata database and the API
server add is the same for every backend, and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from benchmarks import hooks
from benchmarks.memory import Peak
from benchmarks.payloads import payload
from benchmarks.trial import Plan, Trial

BASELINE = ("common-io",)
SHOWN = ("pull_seconds", "value_seconds", "pull_cpu_seconds", "peak_extra_bytes")
WAYS = ("get_all", "iterate", "slice")
MINUTES = 1000
"""Results from which on one pull takes Common IO's backend minutes: it is measured with fewer."""


def trials(plan: Plan) -> Iterator[Trial]:
    """5 KB each; the counts show how the work grows."""
    name = plan.payloads[0] if plan.payloads else "records, 5 KB"
    for latency_ms in plan.latencies_ms:
        if not plan.quick and not latency_ms:
            continue
        for count in (100,) if plan.quick else (10, 100, 300, 1000, 10_000):
            for way in WAYS if latency_ms else WAYS[:1]:
                if (count > 300 and way == "slice") or (way == "slice" and count < 100):
                    continue
                for subject in (*BASELINE, "xcargo"):
                    if subject in BASELINE and count >= MINUTES and plan.extent != "full":
                        continue
                    yield Trial(
                        f"{way} of {count} x {name}",
                        subject,
                        f"{__name__}:{way}",
                        {"name": name, "count": count},
                        prepare=f"{__name__}:rows",
                        latency_ms=latency_ms,
                        rounds=1 if count >= 300 else 2,
                    )


def rows(name: str, count: int) -> list[Any]:
    """The rows of so many mapped results."""
    value = payload(name)
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda number: hooks.push(value, number), range(count)))


def get_all(carry: list[Any], count: int, **_: Any) -> dict[str, Any]:
    """``XCom.get_all``, what ``ti.xcom_pull(task_ids=…)`` calls for a mapped task."""
    return _measured(carry, lambda _: hooks.backend().get_all(**WHERE), count)


def iterate(carry: list[Any], count: int, **_: Any) -> dict[str, Any]:
    """``for value in values`` over what a mapped task's output becomes as an argument; keeps none of them."""

    def consumed(sequence: Any) -> Sequence[Any]:
        first, number = None, 0
        for value in sequence:
            first, number = first or value, number + 1
            if len(value) != len(first):
                raise ValueError("not what was pushed")
        return range(number)

    return _measured(carry, consumed, count)


def slice(carry: list[Any], count: int, **_: Any) -> dict[str, Any]:  # noqa: A001
    """``values[:]`` of the same."""
    return _measured(carry, lambda sequence: sequence[:], count)


WHERE = {"key": "return_value", "dag_id": "bench", "task_id": "mapped", "run_id": "run"}


def _measured(found: list[Any], work: Callable[[Any], Sequence[Any]], count: int) -> dict[str, Any]:
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence

    task_runner.SUPERVISOR_COMMS = Supervisor(found)
    arg: Any = SimpleNamespace(key="return_value", operator=SimpleNamespace(dag_id="bench", task_id="mapped"))
    ti: Any = SimpleNamespace(run_id="run")
    sequence: Any = LazyXComSequence(xcom_arg=arg, ti=ti)
    watch, peak = hooks.Watch(), Peak()
    with watch("pull"):
        values = work(sequence)
    extra = peak.extra_bytes()
    if len(values) != count or (type(values) is not range and any(value != values[0] for value in values)):
        raise ValueError("not what was pushed")
    seconds = [seconds / count for seconds in watch.metrics["pull_seconds"]]
    return {**watch.metrics, "value_seconds": seconds, "peak_extra_bytes": extra}


class Supervisor:
    """Answers what a task asks its supervisor about the XComs of one mapped task."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def send(self, msg: Any) -> Any:
        """The answer to a request."""
        from airflow.sdk.execution_time import comms

        if isinstance(msg, comms.GetXComCount):
            return comms.XComCountResponse(len=len(self._rows))
        if isinstance(msg, comms.GetXComSequenceSlice):
            return comms.XComSequenceSliceResult(root=self._rows[msg.start : msg.stop : msg.step])
        if isinstance(msg, comms.GetXComSequenceItem):
            if -len(self._rows) <= msg.offset < len(self._rows):
                return comms.XComSequenceIndexResult(root=self._rows[msg.offset])
            return comms.ErrorResponse()
        raise TypeError(f"the stand-in has no answer to {type(msg).__name__}")
