"""A PostgreSQL: the embedded server, and connections to any.

What belongs here: the server's programs, processes and settings, who connects where, and errors of a connection.
What does not: tables, trips and Dagster.
"""
