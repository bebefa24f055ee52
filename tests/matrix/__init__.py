"""Runs the contract tests on every Airflow release that xcargo supports: ``python -m tests.matrix --help``."""
