"""Dagster's own records: where they are stored, how a run is launched, and what they say of a month.

What belongs here: storage, launcher, step logs, processes and tags of runs, records of backfills, and whatever is read
out of all that: status, builds, incidents. What does not: assets, checks, schedules and sensors, which are in defs/.
"""
