"""A notebook's process: reads what the contract Dags returned, without Airflow, and prints what it got as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

sys.modules["airflow"] = None  # type: ignore[assignment]  # importing it fails, as where it is not installed

import xcargo  # noqa: E402

url, path, login, refused = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
client = xcargo.connect(url, path=path or None, **login)


def error_of(call: Any) -> str:
    """What a call that must fail raises."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def connect(**changes: str | None) -> Any:
    """A client with other arguments."""
    return xcargo.connect(url, **{"path": path or None, **login, **changes})


def refusals(user: dict[str, Any]) -> dict[str, str]:
    """What a user without a right is told by each call; of their own, since a client remembers its token."""
    other = xcargo.connect(url, path=path or "file:///x", **user)
    calls = {
        "pull": lambda: other.pull("contract_flow", "small"),
        "lazy": lambda: other.lazy("contract_flow", "large_one"),
        "values": lambda: other.values("contract_flow"),
        "history": lambda: other.history("contract_flow", "small"),
    }
    return {name: error_of(call) for name, call in calls.items()}


values = client.values("contract_flow")
handle = client.lazy("contract_flow", "large_one")
history = client.history("contract_flow", "large_one")
report = {
    "small": client.pull("contract_flow", "small"),
    "large": client.pull("contract_flow", "large_one", run_id=client.runs("contract_flow")[0].run_id),
    "mapped": [len(value) for value in client.pull("contract_flow", "double")],
    "one of them": len(client.pull("contract_flow", "double", map_index=2)),
    "values": sorted({value.task_id for value in values}),
    "frame": values.to_frame().query("task_id == 'large_one'").iloc[0]["type"],
    "html": values._repr_html_(),
    "handle": [handle.type, handle.size_bytes, handle._repr_html_()],
    "history": [[value.run_state, value.pull() == handle.load()] for value in history],
    "missing": error_of(lambda: client.pull("contract_flow", "no_such_task")),
    "not mapped": error_of(lambda: client.lazy("contract_flow", "double")),
    "elsewhere": error_of(
        lambda: xcargo.connect(url, path="file:///elsewhere", **login).pull("contract_flow", "large_one")
    ),
    "refused": {name: refusals(user) for name, user in refused.items()},
    "stranger": error_of(lambda: connect(path="file:///x", username=None, token="wrong").runs("contract_flow")),
}
assert "airflow.configuration" not in sys.modules
print(json.dumps(report))
