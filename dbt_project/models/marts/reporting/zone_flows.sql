with activity as (
    select
        pickup_month,
        pickup_zone_id,
        dropoff_zone_id,
        {{ added_measures() }}
    from {{ ref('int_zone_flows_by_file') }}
    group by pickup_month, pickup_zone_id, dropoff_zone_id
),

zones as (
    select * from {{ ref('dim_zones') }}
),

final as (
    select
        activity.*,
        pickup_zones.zone_name as pickup_zone_name,
        pickup_zones.borough as pickup_borough,
        dropoff_zones.zone_name as dropoff_zone_name,
        dropoff_zones.borough as dropoff_borough,
        {{ measure_quotients('activity') }}
    from activity
    left join zones as pickup_zones on activity.pickup_zone_id = pickup_zones.zone_id
    left join zones as dropoff_zones on activity.dropoff_zone_id = dropoff_zones.zone_id
)

select * from final
