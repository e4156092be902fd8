{{ config(
    severity='warn',
    group='core',
    meta={
        'description':
            'No vendor has, in a file, parts of the fare that do not explain the totals. '
            ~ 'total_amount is right; fare_amount is not the fare.',
        'dagster': {'ref': {'name': 'vendor_quality'}},
    },
) }}
select quality.source_month, quality.vendor_id, vendors.vendor_name, quality.trips, quality.matched_total_share
from {{ ref('vendor_quality') }} as quality
left join {{ ref('dim_vendors') }} as vendors on quality.vendor_id = vendors.vendor_id
where {{ in_window('quality.source_month') }} and quality.has_unreliable_amounts
