"""What is known of the TLC and of its green-taxi files: the contract, the download, the parquet reader.

Dagster and Postgres are not known here. A month is a `datetime.date` at the first of that month.
"""
