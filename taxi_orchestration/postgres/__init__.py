"""A PostgreSQL: the embedded server, and connections to any.

What belongs here: the server's programs, processes and settings, connection targets, and connection errors.
What does not: tables, trips and Dagster.
"""
