"""Values from outside of Airflow: in notebooks, scripts and services."""
