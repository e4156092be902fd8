with pickups as (
    select
        pickup_month,
        pickup_zone_id as zone_id,
        sum(trips)::bigint as pickups,
        sum(total_amount)::numeric(14, 2) as total_amount
    from {{ ref('int_zone_flows_by_file') }}
    group by pickup_month, pickup_zone_id
),

dropoffs as (
    select
        pickup_month,
        dropoff_zone_id as zone_id,
        sum(trips)::bigint as dropoffs
    from {{ ref('int_zone_flows_by_file') }}
    group by pickup_month, dropoff_zone_id
),

zones as (
    select * from {{ ref('dim_zones') }}
),

final as (
    select
        pickup_month,
        zone_id,
        zones.zone_name,
        zones.borough,
        coalesce(pickups.pickups, 0) as pickups,
        coalesce(dropoffs.dropoffs, 0) as dropoffs,
        coalesce(pickups.total_amount, 0)::numeric(14, 2) as total_amount
    from pickups
    full outer join dropoffs using (pickup_month, zone_id)
    left join zones using (zone_id)
)

select * from final
