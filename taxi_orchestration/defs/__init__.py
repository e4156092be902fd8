"""The definitions: assets, checks, jobs, schedules, sensors, conditions and alerts.

Each is thin over functions of the packages below it. What does not belong here: SQL, HTTP and arithmetic.
"""
