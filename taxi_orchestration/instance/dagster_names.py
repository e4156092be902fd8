"""Dagster's own names of tags and metadata, for which it exports no constant."""

ROWS = "dagster/partition_row_count"
DATA_VERSION = "dagster/data_version"


def data_version_tags(version: str) -> dict[str, str]:
    """The tags by which an event says which version of the data it is of."""
    return {DATA_VERSION: version, "dagster/data_version_is_user_provided": "true"}
