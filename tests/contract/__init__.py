"""What the backend promises to Airflow, shown on a real Airflow through its public hooks.

``python -m tests.matrix`` runs these tests on every supported release; ``pytest tests/contract`` runs them on the
Airflow that is installed. They bring their own Airflow home and configuration, so a run from the root leaves them out.
"""
