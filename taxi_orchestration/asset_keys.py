"""The keys of all assets, and of the checks of all months. The assets themselves belong to defs/ and dbt_project/."""

from dataclasses import dataclass
from functools import cached_property

from dagster import AssetCheckKey, AssetKey

from taxi_orchestration.tlc.dataset import DATASET


@dataclass(frozen=True)
class AssetKeys:
    """The keys of one student's assets, prefixed with the student's name; no prefix for the default schema (None)."""

    student: str | None = None

    def of(self, name: str) -> AssetKey:
        """Return the key of the asset of this name: a table, a view or an exposure."""
        return AssetKey([self.student, name] if self.student else [name])

    def has(self, key: AssetKey) -> bool:
        """Return whether `key` belongs to an asset of this student."""
        return key == self.of(key.path[-1])

    @cached_property
    def tlc_files(self) -> AssetKey:
        """Return the key of the TLC's files."""
        return self.of(f"tlc_{DATASET.name}")

    @cached_property
    def raw_trips(self) -> AssetKey:
        """Return the key of the rows of the files."""
        return self.of("raw_trips")

    @cached_property
    def raw_zones(self) -> AssetKey:
        """Return the key of the TLC's zone table."""
        return self.of("raw_zones")

    @cached_property
    def raw_zone_shapes(self) -> AssetKey:
        """Return the key of the shapes of the zones."""
        return self.of("raw_zone_shapes")

    @cached_property
    def fct_trips(self) -> AssetKey:
        """Return the key of the facts."""
        return self.of("fct_trips")

    @cached_property
    def taxi_report(self) -> AssetKey:
        """Return the key of the report."""
        return self.of("taxi_report")

    @cached_property
    def coverage_check(self) -> AssetCheckKey:
        """Return the key of the only check of raw_trips that covers all months at once."""
        return AssetCheckKey(self.raw_trips, "every_month_is_loaded")

    @cached_property
    def freshness_check(self) -> AssetCheckKey:
        """Return the key of the freshness check, on the source: on raw_trips, every load would request other months."""
        return AssetCheckKey(self.tlc_files, "newest_month_is_loaded")

    @cached_property
    def checks_of_all_months(self) -> tuple[AssetCheckKey, ...]:
        """Return the keys of the checks whose last evaluation counts, whichever run or sensor made it."""
        return (self.freshness_check, self.coverage_check)
