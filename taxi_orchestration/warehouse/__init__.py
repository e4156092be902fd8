"""The tables: a month replaced, the load log, the zones, what is measured of them, and a role that only reads them.

What belongs here: SQL over the raw tables and the models' tables. What does not: HTTP, Dagster, what a column means.
"""
