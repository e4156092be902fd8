"""What is true of a month, and of all months: pure checks, one file a concept, numbers in and a Finding out.

What does not belong here: SQL, Dagster, and what follows from a Finding.
"""
