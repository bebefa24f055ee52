"""The ``xcargo`` command: one file a subcommand, also mounted as ``airflow xcargo`` where Airflow allows it."""
