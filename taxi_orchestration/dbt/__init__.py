"""dbt in this process: the parsed project, its invocation, and the lineage of its columns.

What belongs here: whatever imports dbt or reads its artifacts. What does not: assets and checks, which are in defs/.
"""
