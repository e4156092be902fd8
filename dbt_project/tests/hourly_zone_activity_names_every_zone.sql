{{ config(
    severity='error',
    group='reporting',
    meta={
        'description': 'Every pickup zone that hourly_zone_activity counts in has a name and a borough.',
        'dagster': {'ref': {'name': 'int_hourly_zone_activity_by_file'}},
    },
) }}
select activity.source_month, activity.pickup_date, activity.pickup_zone_id, zones.zone_name, zones.borough
from {{ ref('int_hourly_zone_activity_by_file') }} as activity
left join {{ ref('dim_zones') }} as zones on activity.pickup_zone_id = zones.zone_id
where {{ in_window('activity.source_month') }} and (zones.zone_name is null or zones.borough is null)
