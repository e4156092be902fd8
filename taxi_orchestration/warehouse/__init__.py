"""The tables of one schema: replacing a month, the load log, the zones, measures, and roles.

What belongs here: SQL over the raw tables and the models' tables. What does not: HTTP, Dagster, the meaning of columns.
"""
