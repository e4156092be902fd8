with activity as (
    select
        pickup_date,
        pickup_zone_id,
        {{ added_measures() }}
    from {{ ref('int_hourly_zone_activity_by_file') }}
    group by pickup_date, pickup_zone_id
),

zones as (
    select * from {{ ref('dim_zones') }}
),

final as (
    select
        activity.*,
        zones.zone_name,
        zones.borough,
        {{ measure_quotients('activity') }}
    from activity
    left join zones on activity.pickup_zone_id = zones.zone_id
)

select * from final
