"""What refers to stored objects, read from the metadata database or through Airflow's REST API."""
