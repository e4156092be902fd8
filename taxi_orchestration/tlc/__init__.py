"""What is known of the TLC and of its files: the data set, the download, the parquet reader.

Dagster and Postgres are not known here. A month is a `datetime.date` at the first of that month.
"""
