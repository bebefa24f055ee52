"""Airflow on several machines' processes: Celery and Edge workers, PostgreSQL, Redis, SeaweedFS; ``make cluster``.

Needs an environment of its own, which ``python -m tests.cluster`` makes.
"""
