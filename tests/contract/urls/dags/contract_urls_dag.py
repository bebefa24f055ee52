"""A Dag whose values travel by plain HTTP: curl puts them and gets them, and its tasks assert what they get.

As a program it runs the Dag, and writes what became of it to the file given. It has a folder of its own, since it
cannot be parsed with a path whose store signs no URLs.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import airflow
import pandas as pd
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

from xcargo import File, collect, collector, upload_url

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import BaseOperator, dag, get_current_context, task
except ImportError:
    from airflow.decorators import dag, task
    from airflow.models.baseoperator import BaseOperator
    from airflow.operators.bash import BashOperator
    from airflow.operators.python import get_current_context

try:
    from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
except ImportError:
    from airflow.triggers.temporal import TimeDeltaTrigger

NAME = "contract_urls"
HOME = os.environ["AIRFLOW_HOME"]
KUBECONFIG = Path(__file__).parents[1] / "kubeconfig.yaml"
FRAME = pd.DataFrame({"n": range(1000), "text": [f"line {n}" for n in range(1000)]})
RECORDS = [{"n": n, "text": f"line {n}"} for n in range(200)]
UPLOAD = {"URL": "{{ macros.xcargo.upload_url() }}"}


def put(text: str, url: str = "$URL") -> str:
    """A command that puts a text; from a file, since not every store takes one of unknown length."""
    return f"printf '{text}' > put && curl -fsS -H 'x-ms-blob-type: BlockBlob' -T put \"{url}\""


class PutsAndWaits(BaseOperator):  # type: ignore[misc]
    """Puts a text, defers, and is done in another process."""

    template_fields = ("url",)

    def __init__(self, *, url: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.url = url

    def execute(self, context: Any) -> None:
        subprocess.run(["bash", "-c", put("before", self.url)], check=True, cwd=HOME)
        self.defer(trigger=TimeDeltaTrigger(timedelta(0)), method_name="done")

    def done(self, context: Any, event: Any = None) -> str:
        return "not what was put"


class PodOnThisMachine(KubernetesPodOperator):  # type: ignore[misc]
    """There is no cluster here: what its pod would run, with the environment of its pod, runs on this machine."""

    def execute(self, context: Any) -> None:
        (container,) = self.build_pod_request_obj(context).spec.containers
        env = {variable.name: variable.value for variable in container.env}
        subprocess.run([*container.command, *container.args], env={**os.environ, **env}, check=True, cwd=HOME)


@dag(NAME, schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def _dag() -> None:
    def bash(task_id: str, command: str, **more: Any) -> Any:
        return BashOperator(task_id=task_id, bash_command=command, append_env=True, **{"env": UPLOAD, **more})

    a_file = bash("a_file", put("hello"), post_execute=collector("greeting.txt"))
    records = bash("records", put('[{"n": 1}, {"n": 2}]'), post_execute=collector("records.json"))
    other_key = bash(
        "other_key",
        put("1,2\\n"),
        env={"URL": "{{ macros.xcargo.upload_url('numbers', expires_seconds=60) }}"},
        post_execute=collector("numbers.csv", key="numbers"),
    )
    collectors = [collector("first.txt"), collector("second.txt", key="second")]
    two = bash(
        "two",
        f"{put('first')} && {put('second', '$SECOND')}",
        env={**UPLOAD, "SECOND": "{{ macros.xcargo.upload_url('second') }}"},
        post_execute=lambda context, result: [each(context, result) for each in collectors],
    )
    mapped = BashOperator.partial(
        task_id="mapped", append_env=True, env=UPLOAD, post_execute=collector("part.txt")
    ).expand(bash_command=[put("first"), put("second")])
    retried = bash(
        "retried",
        f'mkdir "$AIRFLOW_HOME/put_once" 2>&- && {put("try 1")} && exit 1; {put("try 2")}',
        post_execute=collector("try.txt"),
        retries=1,
        retry_delay=timedelta(0),
    )
    deferred = PutsAndWaits(
        task_id="deferred", url="{{ macros.xcargo.upload_url() }}", post_execute=collector("waited.txt")
    )

    pod = PodOnThisMachine(
        task_id="pod",
        image="never-pulled",
        cmds=["bash", "-c"],
        arguments=[put("from a pod")],
        env_vars=UPLOAD,
        config_file=str(KUBECONFIG),
        in_cluster=False,
        post_execute=collector("pod.txt"),
    )

    @task
    def in_python() -> None:
        subprocess.run(["bash", "-c", put("from a program", upload_url())], check=True, cwd=HOME)
        collect("program.txt")

    @task
    def give(kind: str) -> Any:
        return {"file": _written(), "frame": FRAME, "records": RECORDS}[kind]

    def get(kind: str, check: str, arguments: str = "") -> Any:
        url = f"{{{{ macros.xcargo.download_url('give_{kind}'{arguments}) }}}}"
        return bash(f"get_{kind}", f'curl -fsS "$URL" > got && {check}', env={"URL": url})

    @task
    def returned(value: Any) -> Any:
        return value

    numbers = returned.override(task_id="numbers").expand(value=returned(records.output))

    @task
    def check() -> None:
        ti = get_current_context()["ti"]

        def pulled(task_id: str, **more: Any) -> Any:
            return ti.xcom_pull(task_ids=task_id, **more)

        greeting = pulled("a_file")
        assert (greeting.name, greeting.media_type, greeting.read_text()) == ("greeting.txt", "text/plain", "hello")
        assert pulled("records") == [{"n": 1}, {"n": 2}]
        assert pulled("other_key", key="numbers").read_text() == "1,2\n"
        assert [pulled("two", key=key).read_text() for key in ("return_value", "second")] == ["first", "second"]
        assert list(pulled("numbers")) == [{"n": 1}, {"n": 2}]
        assert [file.read_text() for file in pulled("mapped")] == ["first", "second"]
        assert pulled("retried").read_text() == "try 2"
        assert pulled("deferred").read_text() == "before"
        assert pulled("pod").read_text() == "from a pod"
        assert pulled("in_python").read_text() == "from a program"

    gets = [
        give.override(task_id="give_file")("file") >> get("file", "test $(wc -c < got) = 400000"),
        give.override(task_id="give_frame")("frame")
        >> get("frame", "test $(wc -l < got) = 1001", ", media_type='text/csv'"),
        give.override(task_id="give_records")("records") >> get("records", 'grep -q \'"text": "line 199"}]$\' got'),
    ]
    [a_file, numbers, other_key, two, mapped, retried, deferred, pod, in_python(), *gets] >> check()


def _written() -> File:
    path = Path(sys.argv[1]).with_name("digits.txt")
    path.write_text("0123456789" * 40_000)
    return File(path)


DAG = _dag()

if __name__ == "__main__":
    if not airflow.__version__.startswith("2."):
        from airflow.sdk.execution_time import supervisor

        supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)
    run = DAG.test()
    Path(sys.argv[1]).write_text(
        json.dumps({"run_id": run.run_id, "state": str(getattr(run.state, "value", run.state))})
    )
