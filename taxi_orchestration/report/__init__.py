"""The report: frames of the marts in, charts out, and one page that needs no network.

The queries (`read`), the charts and their sentences belong here; Dagster does not. Only `read` and `file` use a
database: pictures and page are made from `frames.Frames` alone.
"""
