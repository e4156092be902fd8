{{ config(
    severity='warn',
    group='core',
    meta={
        'description':
            'No vendor has, in a file, half of the pickups or more in the same minute of the hour: the minutes are lost. '
            ~ 'Their durations are NULL in fct_trips.',
        'dagster': {'ref': {'name': 'vendor_quality'}},
    },
) }}
select quality.source_month, quality.vendor_id, vendors.vendor_name, quality.trips, quality.commonest_minute_share
from {{ ref('vendor_quality') }} as quality
left join {{ ref('dim_vendors') }} as vendors on quality.vendor_id = vendors.vendor_id
where {{ in_window('quality.source_month') }} and quality.has_unreliable_times
