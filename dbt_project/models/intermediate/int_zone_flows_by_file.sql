{{ config(group='reporting', pre_hook=group_in_one_process()) }}

with trips as (
    select
        *,
        -- Only dates outside the file's month are truncated: truncating every date costs as much as the sums.
        case when is_outside_month then date_trunc('month', pickup_date)::date else source_month end as pickup_month
    from {{ ref('fct_trips') }}
    where {{ in_window('source_month') }}
),

final as (
    select
        source_month,
        pickup_month,
        pickup_zone_id,
        dropoff_zone_id,
        {{ trip_measures() }}
    from trips
    group by source_month, pickup_month, pickup_zone_id, dropoff_zone_id
)

select * from final
