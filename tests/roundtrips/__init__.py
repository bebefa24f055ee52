"""Every type of docs/types.md through the hooks of xcargo and of Airflow's own backend, on several Airflows."""
