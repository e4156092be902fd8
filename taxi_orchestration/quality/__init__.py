"""Checks of a month and of all months: pure functions, one file for each concept, numbers in and a Finding out.

What does not belong here: SQL, Dagster, and the reaction to a Finding.
"""
