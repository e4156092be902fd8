with activity as (
    select
        pickup_date,
        pickup_hour,
        {{ added_measures() }}
    from {{ ref('int_hourly_zone_activity_by_file') }}
    group by pickup_date, pickup_hour
),

final as (
    select
        activity.*,
        {{ measure_quotients('activity') }}
    from activity
)

select * from final
