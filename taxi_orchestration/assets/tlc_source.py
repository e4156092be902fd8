"""The TLC's files as an asset that nobody here makes: what its host says of each, as `tlc_publications` saw it."""

from datetime import date

from dagster import AssetKey, AssetObservation, AssetRecordsFilter, AssetSpec, DagsterInstance, MetadataValue

from taxi_orchestration.partitions import key_of, monthly_partitions
from taxi_orchestration.tlc.client import Publication, version_of

TLC_GREEN_TRIPDATA = AssetKey("tlc_green_tripdata")

# The data version of a month that is not there; no ETag looks like it.
NOT_PUBLISHED = "not published"

tlc_green_tripdata = AssetSpec(
    key=TLC_GREEN_TRIPDATA,
    description=(
        "The TLC's files of green-taxi trips, one a month, as its download host announces them: asked for by HEAD, "
        "never downloaded for this. The sensor tlc_publications records a month when it is new, re-issued or "
        "withdrawn; the data version is the file's ETag."
    ),
    partitions_def=monthly_partitions,
    group_name="tlc",
    owners=["team:data-engineering"],
    kinds={"parquet", "http"},
)


def observed_version(publication: Publication) -> str:
    """Which file the host has, as a data version."""
    return publication.version if publication.published else NOT_PUBLISHED


def observation(month: date, publication: Publication) -> AssetObservation:
    """What the host says of a month, as Dagster records it."""
    metadata: dict[str, MetadataValue] = {
        "published": MetadataValue.bool(publication.published),
        "url": MetadataValue.url(publication.url),
    }
    if publication.etag:
        metadata["etag"] = MetadataValue.text(publication.etag)
    if publication.bytes is not None:
        metadata["bytes"] = MetadataValue.int(publication.bytes)
    if publication.last_modified:
        metadata["last modified"] = MetadataValue.timestamp(publication.last_modified)
    return AssetObservation(
        asset_key=TLC_GREEN_TRIPDATA,
        partition=key_of(month),
        metadata=metadata,
        tags={
            "dagster/data_version": observed_version(publication),
            "dagster/data_version_is_user_provided": "true",
        },
    )


def source_tags(instance: DagsterInstance, month: date, etag: str | None) -> dict[str, str]:
    """The tags that tell Dagster which file a materialization that is logged by hand was made from.

    Without them Dagster calls the month stale for ever: "has a new dependency".
    """
    records = AssetRecordsFilter(TLC_GREEN_TRIPDATA, asset_partitions=[key_of(month)])
    seen = instance.fetch_observations(records, limit=1).records
    name = TLC_GREEN_TRIPDATA.to_user_string()
    return {
        f"dagster/input_data_version/{name}": version_of(etag, None, None),
        f"dagster/input_event_pointer/{name}": str(seen[0].storage_id) if seen else "NULL",
    }
