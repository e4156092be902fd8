{{ config(
    materialized='incremental',
    incremental_strategy='window',
    on_schema_change='fail',
    indexes=[{'columns': ['pickup_at', 'pickup_date'], 'type': 'brin'}],
) }}

with trips as (
    select * from {{ ref('stg_trips') }}
    where {{ in_window('source_month') }}
),

final as (
    select
        source_month,
        source_row,
        vendor_id,
        pickup_at,
        dropoff_at,
        pickup_date,
        is_store_and_forward,
        rate_code_id,
        pickup_zone_id,
        dropoff_zone_id,
        passenger_count,
        trip_miles,
        trip_seconds,
        fare_amount,
        extra,
        mta_tax,
        tip_amount,
        tolls_amount,
        ehail_fee,
        improvement_surcharge,
        congestion_surcharge,
        cbd_congestion_fee,
        total_amount,
        payment_type_id,
        trip_type_id,
        is_outside_month,
        is_refund,
        is_zero_distance,
        is_over_12_hours,
        is_missing_codes,
        has_unusual_values,
        components_match_total
    from trips
    where not is_rejected
)

select * from final
