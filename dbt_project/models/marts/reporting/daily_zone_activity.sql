with activity as (
    select
        pickup_date,
        pickup_zone_id,
        sum(trips)::bigint as trips,
        sum(passengers)::bigint as passengers,
        sum(trip_miles)::numeric(14, 2) as trip_miles,
        sum(trip_seconds)::bigint as trip_seconds,
        sum(fare_amount)::numeric(14, 2) as fare_amount,
        sum(tip_amount)::numeric(14, 2) as tip_amount,
        sum(tolls_amount)::numeric(14, 2) as tolls_amount,
        sum(total_amount)::numeric(14, 2) as total_amount
    from {{ ref('int_daily_zone_activity_by_file') }}
    group by pickup_date, pickup_zone_id
),

zones as (
    select * from {{ ref('dim_zones') }}
),

final as (
    select
        activity.pickup_date,
        activity.pickup_zone_id,
        zones.zone_name,
        zones.borough,
        activity.trips,
        activity.passengers,
        activity.trip_miles,
        activity.trip_seconds,
        activity.fare_amount,
        activity.tip_amount,
        activity.tolls_amount,
        activity.total_amount
    from activity
    left join zones on activity.pickup_zone_id = zones.zone_id
)

select * from final
