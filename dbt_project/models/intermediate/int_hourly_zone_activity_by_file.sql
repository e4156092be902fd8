{{ config(group='reporting', indexes=[{'columns': ['pickup_date'], 'type': 'brin'}], pre_hook=group_in_one_process()) }}

with trips as (
    select * from {{ ref('fct_trips') }}
    where {{ in_window('source_month') }}
),

final as (
    select
        source_month,
        pickup_date,
        date_part('hour', pickup_at)::integer as pickup_hour,
        pickup_zone_id,
        {{ trip_measures() }}
    from trips
    group by source_month, pickup_date, date_part('hour', pickup_at)::integer, pickup_zone_id
)

select * from final
