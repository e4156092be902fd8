"""The TLC and its files: the data set, the download, the parquet reader.

Dagster and PostgreSQL do not belong here. A month is a `datetime.date`, the first day of that month.
"""
