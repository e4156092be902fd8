{{ config(
    severity='error',
    meta={
        'description': 'Every code, zone and day that occurs in fct_trips in the window has a row in its dimension.',
        'dagster': {'ref': {'name': 'fct_trips'}},
    },
) }}
-- One scan of the facts for all codes: what is left to look up is a few hundred rows.
with codes as (
    select
        source_month,
        vendor_id,
        rate_code_id,
        payment_type_id,
        trip_type_id,
        pickup_zone_id,
        dropoff_zone_id,
        pickup_date
    from {{ ref('fct_trips') }}
    where {{ in_window('source_month') }}
    group by grouping sets (
        (source_month, vendor_id, rate_code_id, payment_type_id, trip_type_id),
        (source_month, pickup_zone_id),
        (source_month, dropoff_zone_id),
        (source_month, pickup_date)
    )
)

select codes.*
from codes
where
    codes.vendor_id not in (select dim_vendors.vendor_id from {{ ref('dim_vendors') }})
    or codes.rate_code_id not in (select dim_rate_codes.rate_code_id from {{ ref('dim_rate_codes') }})
    or codes.payment_type_id not in (select dim_payment_types.payment_type_id from {{ ref('dim_payment_types') }})
    or codes.trip_type_id not in (select dim_trip_types.trip_type_id from {{ ref('dim_trip_types') }})
    or codes.pickup_zone_id not in (select dim_zones.zone_id from {{ ref('dim_zones') }})
    or codes.dropoff_zone_id not in (select dim_zones.zone_id from {{ ref('dim_zones') }})
    or codes.pickup_date not in (select dim_dates.pickup_date from {{ ref('dim_dates') }})
