"""New York green-taxi trips, exact by month, as a Dagster project."""
