{{ config(indexes=[{'columns': ['pickup_at', 'pickup_date'], 'type': 'brin'}]) }}

with trips as (
    select * from {{ ref('stg_trips') }}
    where {{ in_window('source_month') }} and not is_rejected
),

vendors as (
    select * from {{ ref('vendor_quality') }}
    where {{ in_window('source_month') }}
),

-- PostgreSQL would materialize a CTE that is read twice, and compute all trips in the one process that can read it.
refunds as not materialized (
    select * from {{ ref('int_refunds') }}
    where {{ in_window('source_month') }}
),

final as (
    select
        {{ trip_columns('trips', {
            'dropoff_at': 'case when vendors.has_unreliable_times is not true then trips.dropoff_at end',
            'trip_seconds': 'case when vendors.has_unreliable_times is not true then trips.trip_seconds end',
        }) }},
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
