{{ config(group='reporting', indexes=[{'columns': ['pickup_date']}]) }}

with trips as (
    select * from {{ ref('fct_trips') }}
    where {{ in_window('source_month') }}
),

final as (
    select
        source_month,
        pickup_date,
        coalesce(pickup_zone_id, -1) as pickup_zone_id,
        count(*) as trips,
        coalesce(sum(passenger_count), 0) as passengers,
        coalesce(sum(trip_miles), 0) as trip_miles,
        coalesce(sum(trip_seconds), 0)::bigint as trip_seconds,
        coalesce(sum(fare_amount), 0) as fare_amount,
        coalesce(sum(tip_amount), 0) as tip_amount,
        coalesce(sum(tolls_amount), 0) as tolls_amount,
        coalesce(sum(total_amount), 0) as total_amount
    from trips
    group by source_month, pickup_date, coalesce(pickup_zone_id, -1)
)

select * from final
