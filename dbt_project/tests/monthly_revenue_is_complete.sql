{{ config(
    severity='error',
    group='reporting',
    meta={
        'description':
            'Every row that monthly_revenue adds up has trips, and no more refunds than trips. That it has every sum is '
            ~ 'a constraint of the table.',
        'dagster': {'ref': {'name': 'int_monthly_revenue_by_file'}},
    },
) }}
select source_month, pickup_month, payment_type_id, trips, refunds
from {{ ref('int_monthly_revenue_by_file') }}
where {{ in_window('source_month') }} and (trips <= 0 or refunds not between 0 and trips)
