"""The definitions: assets, checks, jobs, schedules, sensors, conditions and alerts.

What belongs here: thin definitions over functions of the packages below. What does not: SQL, HTTP and arithmetic.
"""
