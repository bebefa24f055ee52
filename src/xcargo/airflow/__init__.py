"""The Airflow edge: the only folder that imports airflow."""
