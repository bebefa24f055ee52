"""How a value is pushed and pulled with each peer, by its public interface. Runs in the peer's own environment.

All find the store by the usual variables and the configuration file of AWS, which ``use`` sets.
"""

from __future__ import annotations

import json
import os
import pickle
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

__all__ = ["CLIENTS", "Client", "client"]

_AWS_CONFIG = """[default]
region = {region}
endpoint_url = {endpoint}
s3 =
    addressing_style = path
    payload_signing_enabled = false
"""
"""Bodies are left out of signatures, as over TLS: see ``benchmarks.store``."""


class Client(Protocol):
    """Pushes and pulls."""

    def push(self, value: Any) -> Any:
        """Store a value; what finds it again, as JSON has it."""

    def pull(self, handle: Any) -> Any:
        """The value, in whatever process."""

    def gather(self, handles: Sequence[Any]) -> Sequence[Any]:
        """The results of a task's many predecessors, as the peer gives them to it."""
        return [self.pull(handle) for handle in handles]


def client(subject: str) -> Client:
    """A new client over the store of this measurement."""
    where = json.loads(os.environ["BENCHMARKS_RAW"])
    config = Path(tempfile.mkdtemp(prefix="xcargo-bench-")) / "aws"
    config.write_text(_AWS_CONFIG.format(**where))
    os.environ |= {
        "AWS_CONFIG_FILE": str(config),
        "AWS_ACCESS_KEY_ID": where["access_key"],
        "AWS_SECRET_ACCESS_KEY": where["secret_key"],
    }
    made: Client = CLIENTS[subject](where)
    return made


class Backend(Client):
    """An XCom backend, by Airflow's hooks."""

    def __init__(self, where: dict[str, Any]) -> None:
        from benchmarks import hooks

        self._hooks = hooks

    def push(self, value: Any) -> Any:
        return self._hooks.push(value)

    def pull(self, handle: Any) -> Any:
        return self._hooks.pull(handle)

    def gather(self, handles: Sequence[Any]) -> Sequence[Any]:
        from airflow.sdk.execution_time import task_runner

        from benchmarks.scenarios.fanin import WHERE, Supervisor

        task_runner.SUPERVISOR_COMMS = Supervisor(list(handles))
        return self._hooks.backend().get_all(**WHERE)  # type: ignore[no-any-return]


class PickleBoto3(Client):
    """What one writes by hand: ``pickle`` protocol 5 and boto3."""

    def __init__(self, where: dict[str, Any]) -> None:
        import boto3

        self._s3 = boto3.client("s3")
        self._bucket, self._prefix = where["bucket"], where["prefix"]

    def push(self, value: Any) -> Any:
        place = {"Bucket": self._bucket, "Key": f"{self._prefix}/pickle/{uuid.uuid4()}"}
        self._s3.put_object(Body=pickle.dumps(value, protocol=5), **place)
        return place

    def pull(self, handle: Any) -> Any:
        return pickle.loads(self._s3.get_object(**handle)["Body"].read())


class PandasS3fs(Client):
    """``to_parquet`` and ``read_parquet`` by s3fs: tables only."""

    def __init__(self, where: dict[str, Any]) -> None:
        self._root = f"s3://{where['bucket']}/{where['prefix']}/pandas"
        self._options = {"anon": False}  # with options, pandas opens the address by s3fs

    def push(self, value: Any) -> Any:
        url = f"{self._root}/{uuid.uuid4()}.parquet"
        value.to_parquet(url, storage_options=self._options)
        return url

    def pull(self, handle: Any) -> Any:
        import pandas as pd

        return pd.read_parquet(handle, storage_options=self._options)


class Dagster(Client):
    """``S3PickleIOManager``, between an op's output and another op's input."""

    def __init__(self, where: dict[str, Any]) -> None:
        import dagster
        from dagster_aws.s3 import S3PickleIOManager, S3Resource

        self._dagster = dagster
        self._of_run = dagster.build_output_context()  # holds what a run makes once: a log and resources
        self._manager = S3PickleIOManager(
            s3_resource=S3Resource(), s3_bucket=where["bucket"], s3_prefix=f"{where['prefix']}/dagster"
        )

    def push(self, value: Any) -> Any:
        run = str(uuid.uuid4())
        self._manager.handle_output(self._output(run), value)
        return run

    def pull(self, handle: Any) -> Any:
        context = self._dagster.InputContext(
            upstream_output=self._output(handle), log_manager=self._of_run.log, resources=self._of_run.resources
        )
        return self._manager.load_input(context)

    def _output(self, run: str) -> Any:
        return self._dagster.OutputContext(
            run_id=run,
            step_key="task",
            name="result",
            log_manager=self._of_run.log,
            resources=self._of_run.resources,
        )


class Prefect(Client):
    """``ResultStore`` over ``S3Bucket``, with the serializer it has by default."""

    def __init__(self, where: dict[str, Any]) -> None:
        from prefect.results import ResultStore
        from prefect_aws import AwsClientParameters, AwsCredentials, S3Bucket

        parameters = AwsClientParameters(endpoint_url=where["endpoint"])
        credentials = AwsCredentials(region_name=where["region"], aws_client_parameters=parameters)
        storage = S3Bucket(
            bucket_name=where["bucket"], bucket_folder=f"{where['prefix']}/prefect", credentials=credentials
        )
        self._store = ResultStore(result_storage=storage)

    def push(self, value: Any) -> Any:
        key = uuid.uuid4().hex
        self._store.write(value, key=key)
        return key

    def pull(self, handle: Any) -> Any:
        return self._store.read(handle).result


class Metaflow(Client):
    """The datastore by which a task keeps ``self.value`` and the next step reads it."""

    def __init__(self, where: dict[str, Any]) -> None:
        os.environ["METAFLOW_S3_ENDPOINT_URL"] = where["endpoint"]
        os.environ["METAFLOW_S3_WORKER_COUNT"] = "4"  # 64 are for large machines
        from metaflow.datastore import FlowDataStore
        from metaflow.plugins.datastores.s3_storage import S3Storage

        root = f"s3://{where['bucket']}/{where['prefix']}/metaflow"
        self._flow = FlowDataStore("Bench", storage_impl=S3Storage, ds_root=root)

    def push(self, value: Any) -> Any:
        place = {"run_id": "1", "step_name": "task", "task_id": uuid.uuid4().hex}
        task = self._flow.get_task_datastore(**place, attempt=0, mode="w")
        task.init_task()
        task.save_artifacts([("value", value)], len_hint=1)
        task.done()
        return place

    def pull(self, handle: Any) -> Any:
        return self._flow.get_task_datastore(**handle, attempt=0)["value"]

    def gather(self, handles: Sequence[Any]) -> Sequence[Any]:
        paths = ["/".join(handle.values()) for handle in handles]
        return [task["value"] for task in self._flow.get_task_datastores(pathspecs=paths)]


class ZenML(Client):
    """The materializer that ZenML chooses for the value, over its ``S3ArtifactStore``."""

    def __init__(self, where: dict[str, Any]) -> None:
        from datetime import datetime, timezone

        from zenml.enums import StackComponentType
        from zenml.integrations.numpy.materializers.numpy_materializer import NumpyMaterializer  # noqa: F401
        from zenml.integrations.pandas.materializers.pandas_materializer import PandasMaterializer  # noqa: F401
        from zenml.integrations.s3.artifact_stores.s3_artifact_store import S3ArtifactStore
        from zenml.integrations.s3.flavors.s3_artifact_store_flavor import S3ArtifactStoreConfig
        from zenml.materializers.materializer_registry import materializer_registry

        now = datetime.now(timezone.utc)
        self._root = f"s3://{where['bucket']}/{where['prefix']}/zenml"
        self._store = S3ArtifactStore(
            name="bench",
            id=uuid.uuid4(),
            config=S3ArtifactStoreConfig(
                path=f"s3://{where['bucket']}",
                key=where["access_key"],
                secret=where["secret_key"],
                client_kwargs={"endpoint_url": where["endpoint"]},
            ),
            flavor="s3",
            type=StackComponentType.ARTIFACT_STORE,
            user=uuid.uuid4(),
            created=now,
            updated=now,
        )
        self._registry = materializer_registry

    def push(self, value: Any) -> Any:
        uri = f"{self._root}/{uuid.uuid4()}"
        self._store.makedirs(uri)
        self._registry[type(value)](uri, self._store).save(value)
        return [uri, f"{type(value).__module__}.{type(value).__qualname__}"]

    def pull(self, handle: Any) -> Any:
        from zenml.utils.source_utils import load

        uri, name = handle
        kind = load(name)
        return self._registry[kind](uri, self._store).load(kind)


class Flyte(Client):
    """The type transformer that flytekit chooses: of tables and arrays only, since other values never reach S3."""

    def __init__(self, where: dict[str, Any]) -> None:
        from flytekit import FlyteContextManager
        from flytekit.configuration import DataConfig, S3Config
        from flytekit.core.data_persistence import FileAccessProvider
        from flytekit.core.type_engine import TypeEngine

        config = DataConfig(
            s3=S3Config(
                endpoint=where["endpoint"], access_key_id=where["access_key"], secret_access_key=where["secret_key"]
            )
        )
        local = tempfile.mkdtemp(prefix="xcargo-bench-")
        root = f"s3://{where['bucket']}/{where['prefix']}/flyte/{uuid.uuid4()}"  # names repeat in forked processes
        access = FileAccessProvider(local, root, data_config=config)
        self._context = FlyteContextManager.current_context().new_builder().with_file_access(access).build()
        self._engine = TypeEngine

    def push(self, value: Any) -> Any:
        kind = type(value)
        literal = self._engine.to_literal(self._context, value, kind, self._engine.to_literal_type(kind))
        return [literal.to_flyte_idl().SerializeToString().hex(), kind.__name__]

    def pull(self, handle: Any) -> Any:
        import numpy as np
        import pandas as pd
        from flyteidl.core.literals_pb2 import Literal as Message
        from flytekit.models.literals import Literal

        text, name = handle
        literal = Literal.from_flyte_idl(Message.FromString(bytes.fromhex(text)))
        kind = {"DataFrame": pd.DataFrame, "ndarray": np.ndarray}[name]
        return self._engine.to_python_value(self._context, literal, kind)


CLIENTS: dict[str, type[Any]] = {
    "xcargo": Backend,
    "common-io": Backend,
    "dagster": Dagster,
    "prefect": Prefect,
    "metaflow": Metaflow,
    "zenml": ZenML,
    "flyte": Flyte,
    "pickle-boto3": PickleBoto3,
    "pandas-s3fs": PandasS3fs,
}
