{{ config(indexes=[{'columns': ['pickup_at', 'pickup_date'], 'type': 'brin'}]) }}

with trips as (
    select * from {{ ref('stg_trips') }}
    where {{ in_window('source_month') }} and not is_rejected
),

vendors as (
    select * from {{ ref('vendor_quality') }}
    where {{ in_window('source_month') }}
),

refunds as (
    select * from {{ ref('int_refunds') }}
    where {{ in_window('source_month') }}
),

final as (
    select
        trips.source_month,
        trips.source_row,
        trips.vendor_id,
        trips.pickup_at,
        case when vendors.has_unreliable_times is not true then trips.dropoff_at end as dropoff_at,
        trips.pickup_date,
        trips.is_store_and_forward,
        trips.rate_code_id,
        trips.pickup_zone_id,
        trips.dropoff_zone_id,
        trips.passenger_count,
        trips.trip_miles,
        case when vendors.has_unreliable_times is not true then trips.trip_seconds end as trip_seconds,
        trips.fare_amount,
        trips.extra,
        trips.mta_tax,
        trips.tip_amount,
        trips.tolls_amount,
        trips.ehail_fee,
        trips.improvement_surcharge,
        trips.congestion_surcharge,
        trips.cbd_congestion_fee,
        trips.total_amount,
        trips.payment_type_id,
        trips.trip_type_id,
        trips.is_outside_month,
        trips.is_refund,
        trips.is_zero_distance,
        trips.is_over_12_hours,
        trips.is_missing_codes,
        trips.has_unusual_values,
        trips.components_match_total,
        trips.has_implausible_distance,
        trips.has_invalid_duration,
        vendors.has_unreliable_times is true as has_unreliable_times,
        vendors.has_unreliable_amounts is true as has_unreliable_amounts,
        refunds.refunded_source_row as refunds_source_row,
        refunded.source_row is not null as is_refunded
    from trips
    left join vendors on trips.source_month = vendors.source_month and trips.vendor_id = vendors.vendor_id
    left join refunds on trips.source_month = refunds.source_month and trips.source_row = refunds.source_row
    left join refunds as refunded
        on trips.source_month = refunded.source_month and trips.source_row = refunded.refunded_source_row
)

select * from final
