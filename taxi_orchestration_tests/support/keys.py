"""The asset keys and checks of the default schema, which all tests use except those of students."""

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.coverage import coverage_spec
from taxi_orchestration.defs.month_checks import raw_checks
from taxi_orchestration.defs.month_watch import freshness_spec

PLAIN = AssetKeys()
TLC_FILES = PLAIN.tlc_files
RAW_TRIPS = PLAIN.raw_trips
FCT_TRIPS = PLAIN.fct_trips
TAXI_REPORT = PLAIN.taxi_report
REJECTED_TRIPS = PLAIN.of("rejected_trips")
# The load and one dbt table: a whole pipeline takes five times the CPU time.
TABLES = (RAW_TRIPS, REJECTED_TRIPS)

RAW_CHECKS = raw_checks(PLAIN)
COVERAGE = coverage_spec(PLAIN)
FRESHNESS = freshness_spec(PLAIN)
