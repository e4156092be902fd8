"""Trip records of the TLC, exact by month, as a Dagster project."""
