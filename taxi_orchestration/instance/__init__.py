"""Dagster's storage, run launcher and records, and the status of a month according to them.

What belongs here: storage, launcher, step logs, processes and tags of runs, records of backfills, and what is derived
from records: status, builds, incidents. What does not: assets, checks, schedules and sensors, which are in defs/.
"""
