"""Twenty questions of an analyst, each as a query of the marts and as plain SQL on raw_trips."""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import psycopg

from taxi_orchestration.tlc.dataset import DATASET

Answer = tuple[Any, ...]

PICKUP, DROPOFF = DATASET.pickup, DATASET.dropoff
SECONDS = f"extract(epoch from {DROPOFF} - {PICKUP})"
# Trips with a pickup at most 31 days outside the month of their file.
NEAR = f"{PICKUP} >= source_month - 31 and {PICKUP} < source_month + interval '1 month 31 days'"
MART = "pickup_month = %(month)s"
RAW = f"{PICKUP} >= %(month)s and {PICKUP} < %(month)s + interval '1 month'"
HAS_DISTANCE = "trip_distance > 0 and trip_distance <= 500"
TIMED = (
    f"{RAW} and {HAS_DISTANCE} and {SECONDS} > 0 and {SECONDS} <= 43200 "
    f"and {PICKUP}::date <> all(%(clock_changes)s) and coalesce(vendorid, -1) <> all(%(unreliable_vendors)s)"
)

QUESTIONS: dict[str, tuple[str, str]] = {
    "trips of a month": (
        f"select trips from monthly_summary where {MART}",
        f"select count(*) from raw_trips where {RAW}",
    ),
    "dollars of a month": (
        f"select total_amount from monthly_summary where {MART}",
        f"select sum(total_amount::numeric) from raw_trips where {RAW}",
    ),
    "trips a day": (
        f"select trips_per_day from monthly_summary where {MART}",
        "select round(count(*) / extract(day from %(month)s + interval '1 month' - interval '1 day'), 4) "
        f"from raw_trips where {RAW}",
    ),
    "complete months": (
        "select pickup_month from monthly_summary where is_complete order by 1",
        "select distinct source_month from raw_trips order by 1",
    ),
    "passengers a trip": (
        f"select passengers_per_trip from monthly_summary where {MART}",
        f"select round(avg(passenger_count), 4) from raw_trips where {RAW}",
    ),
    "speed": (
        "select round(sum(timed_miles) * 3600 / sum(timed_seconds), 3) from daily_zone_activity "
        "where date_trunc('month', pickup_date) = %(month)s and pickup_date <> all(%(clock_changes)s)",
        f"select round(sum(trip_distance::numeric) * 3600 / sum({SECONDS}), 3) from raw_trips where {TIMED}",
    ),
    "dollars a mile": (
        f"select dollars_per_mile from monthly_summary where {MART}",
        "select round(sum(total_amount::numeric) / sum(trip_distance::numeric), 4) from raw_trips "
        f"where {RAW} and {HAS_DISTANCE}",
    ),
    "tip share of card trips": (
        f"select card_tip_share from monthly_summary where {MART}",
        "select round(sum(tip_amount::numeric) / sum(total_amount::numeric - tip_amount::numeric), 4) "
        f"from raw_trips where {RAW} and payment_type = 1",
    ),
    "refunds": (
        f"select sum(refunds) from monthly_revenue where {MART}",
        f"select count(*) from raw_trips where {RAW} and total_amount < 0",
    ),
    "trips by payment type, joined": (
        "select payment_type_id, count(*) from fct_trips join dim_payment_types using (payment_type_id) "
        "group by 1 order by 1",
        f"select coalesce(payment_type, -1), count(*) from raw_trips where {NEAR} group by 1 order by 1",
    ),
    "dollars by payment type": (
        f"select payment_type_id, total_amount from monthly_revenue where {MART} order by 1",
        "select coalesce(payment_type, -1), sum(total_amount::numeric) from raw_trips "
        f"where {RAW} group by 1 order by 1",
    ),
    "busiest pickup zones": (
        "select pickup_zone_id, sum(trips) from daily_zone_activity group by 1 order by 2 desc, 1 limit 5",
        "select coalesce(pulocationid, -1), count(*) from raw_trips "
        f"where {NEAR} group by 1 order by 2 desc, 1 limit 5",
    ),
    "busiest flow": (
        f"select pickup_zone_id, dropoff_zone_id, trips from zone_flows where {MART} order by 3 desc, 1, 2 limit 5",
        "select coalesce(pulocationid, -1), coalesce(dolocationid, -1), count(*) from raw_trips "
        f"where {RAW} group by 1, 2 order by 3 desc, 1, 2 limit 5",
    ),
    "trips by hour": (
        "select pickup_hour, sum(trips) from hourly_zone_activity group by 1 order by 1",
        f"select extract(hour from {PICKUP}), count(*) from raw_trips where {NEAR} group by 1 order by 1",
    ),
    "trips at the weekend": (
        "select sum(trips) from daily_zone_activity join dim_dates using (pickup_date) where is_weekend",
        f"select count(*) from raw_trips where {NEAR} and extract(isodow from {PICKUP}) >= 6",
    ),
    "trips from airports, Newark among them": (
        "select count(*) from trips where is_airport_pickup",
        f"select count(*) from raw_trips join raw_zones on locationid = pulocationid where {NEAR} "
        "and (service_zone = 'Airports' or borough = 'EWR')",
    ),
    "trips by vendor, joined": (
        "select vendor_id, count(*) from trips group by 1 order by 1",
        f"select coalesce(vendorid, -1), count(*) from raw_trips where {NEAR} group by 1 order by 1",
    ),
    "fees of the Congestion Relief Zone": (
        "select coalesce(sum(cbd_congestion_fee), 0) from monthly_revenue",
        f"select coalesce(sum(cbd_congestion_fee::numeric), 0) from raw_trips where {NEAR}",
    ),
    "trips without a possible distance": (
        "select count(*) from fct_trips where has_implausible_distance",
        f"select count(*) from raw_trips where {NEAR} and (trip_distance > 500 or trip_distance < 0)",
    ),
    "dollars of all trips": (
        "select sum(total_amount) from zone_flows",
        f"select sum(total_amount::numeric) from raw_trips where {NEAR}",
    ),
}


def answer_questions(
    connection: psycopg.Connection, month: date, clock_changes: Sequence[date], unreliable_vendors: Sequence[int] = ()
) -> Iterator[tuple[str, list[Answer], list[Answer]]]:
    """Yield each question's name, the rows of the mart and the rows of raw_trips, for one month.

    Trips on the days `clock_changes` and trips of `unreliable_vendors` have no reliable duration.
    """
    values = {
        "month": month,
        "clock_changes": list(clock_changes),
        "unreliable_vendors": list(unreliable_vendors),
    }
    for question, (mart, raw) in QUESTIONS.items():
        of_mart, of_raw = (connection.execute(query.encode(), values).fetchall() for query in (mart, raw))
        yield question, of_mart, of_raw
