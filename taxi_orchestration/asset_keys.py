"""Every asset's key, and those of the checks of all months. What an asset is belongs to defs/ and dbt_project/."""

from dataclasses import dataclass
from functools import cached_property

from dagster import AssetCheckKey, AssetKey

from taxi_orchestration.tlc.dataset import DATASET


@dataclass(frozen=True)
class AssetKeys:
    """The keys of one student's assets, each behind the student's name; plain names for the default schema (None)."""

    student: str | None = None

    def of(self, name: str) -> AssetKey:
        """The key of the asset of this name: of a table, a view or an exposure."""
        return AssetKey([self.student, name] if self.student else [name])

    def has(self, key: AssetKey) -> bool:
        """Whether this is the key of an asset of this student."""
        return key == self.of(key.path[-1])

    @cached_property
    def tlc_files(self) -> AssetKey:
        """The TLC's files."""
        return self.of(f"tlc_{DATASET.name}")

    @cached_property
    def raw_trips(self) -> AssetKey:
        """Their rows."""
        return self.of("raw_trips")

    @cached_property
    def raw_zones(self) -> AssetKey:
        """The TLC's zone table."""
        return self.of("raw_zones")

    @cached_property
    def raw_zone_shapes(self) -> AssetKey:
        """Where the zones lie."""
        return self.of("raw_zone_shapes")

    @cached_property
    def fct_trips(self) -> AssetKey:
        """The facts."""
        return self.of("fct_trips")

    @cached_property
    def taxi_report(self) -> AssetKey:
        """The page of pictures."""
        return self.of("taxi_report")

    @cached_property
    def coverage_check(self) -> AssetCheckKey:
        """The one check of raw_trips that is of all months at once."""
        return AssetCheckKey(self.raw_trips, "every_month_is_loaded")

    @cached_property
    def freshness_check(self) -> AssetCheckKey:
        """Of the source, not of raw_trips: else every run that loads a month would ask the TLC for others."""
        return AssetCheckKey(self.tlc_files, "newest_month_is_loaded")

    @cached_property
    def checks_of_all_months(self) -> tuple[AssetCheckKey, ...]:
        """The checks of which the last record counts, whoever made it."""
        return (self.freshness_check, self.coverage_check)
