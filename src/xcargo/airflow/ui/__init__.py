"""The XCom explorer in Airflow's own UI."""
