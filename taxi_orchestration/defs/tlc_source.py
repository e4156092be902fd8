"""The TLC's files as an external asset, observed by the sensor and by loads."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from dagster import (
    AssetExecutionContext,
    AssetObservation,
    AssetRecordsFilter,
    AssetSpec,
    MetadataValue,
    PartitionsDefinition,
)

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.code_references import file_metadata
from taxi_orchestration.instance.dagster_names import data_version_tags
from taxi_orchestration.months import partition_key
from taxi_orchestration.tlc.client import Publication
from taxi_orchestration.tlc.dataset import DATASET

# The data version of a month that is not published, distinct from every ETag.
NOT_PUBLISHED = "not published"


def build_tlc_files(months: PartitionsDefinition, assets: AssetKeys) -> AssetSpec:
    """Build the asset with these months."""
    return AssetSpec(
        key=assets.tlc_files,
        description=(
            f"The TLC's files of {DATASET.label} trips, one a month, observed by HEAD requests to the download host. "
            "The sensor tlc_publications records a month that is new, re-issued or withdrawn, and a load records its "
            "file. The data version is the file's ETag."
        ),
        partitions_def=months,
        group_name="tlc",
        kinds={"parquet", "http"},
        metadata=file_metadata(Path(__file__)),
    )


def observed_version(publication: Publication) -> str:
    """Return the host's file of a month as a data version."""
    return publication.version if publication.published else NOT_PUBLISHED


def observation(assets: AssetKeys, month: date, publication: Publication) -> AssetObservation:
    """Return the observation of a month on the host."""
    metadata = {"published": MetadataValue.bool(publication.published)} | _metadata(publication)
    return _observation(assets, month, observed_version(publication), metadata)


def source_tags(
    context: AssetExecutionContext, assets: AssetKeys, month: date, publication: Publication
) -> dict[str, str]:
    """Return the tags that record the source file of a materialization of raw_trips.

    Dagster marks a month as stale once the source is observed with another version than these tags. So every load
    observes its file.
    """
    context.log_event(_observation(assets, month, publication.version, _metadata(publication)))
    records = AssetRecordsFilter(assets.tlc_files, asset_partitions=[partition_key(month)])
    (seen,) = context.instance.fetch_observations(records, limit=1).records
    name = assets.tlc_files.to_user_string()
    return {
        f"dagster/input_data_version/{name}": publication.version,
        f"dagster/input_event_pointer/{name}": str(seen.storage_id),
    }


def _metadata(publication: Publication) -> dict[str, MetadataValue]:
    metadata: dict[str, MetadataValue] = {"url": MetadataValue.url(publication.url)}
    if publication.etag:
        metadata["etag"] = MetadataValue.text(publication.etag)
    if publication.bytes is not None:
        metadata["bytes"] = MetadataValue.int(publication.bytes)
    if publication.last_modified:
        metadata["last modified"] = MetadataValue.timestamp(publication.last_modified)
    return metadata


def _observation(
    assets: AssetKeys, month: date, version: str, metadata: Mapping[str, MetadataValue]
) -> AssetObservation:
    return AssetObservation(
        asset_key=assets.tlc_files,
        partition=partition_key(month),
        metadata=metadata,
        tags=data_version_tags(version),
    )
