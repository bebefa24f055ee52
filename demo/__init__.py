"""A real Airflow on this machine, and two Dags that show what xcargo does with their values."""
