"""The report: frames of the marts in, charts out, and one page that needs no network.

Which table has what (`read`), what is drawn and how it is put into words belongs here; Dagster does not. Only `read`
and `file` know a database: pictures and page are made of `frames.Frames` alone.
"""
