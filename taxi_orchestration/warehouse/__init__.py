"""What knows PostgreSQL, and neither Dagster nor the TLC's host."""
