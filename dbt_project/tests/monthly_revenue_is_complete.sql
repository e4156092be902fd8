{{ config(
    severity='error',
    group='reporting',
    meta={
        'description':
            'Every row that monthly_revenue adds up has trips, no more refunds than trips, and a payment type with '
            ~ 'a name. That it has every sum is a constraint of the table.',
        'dagster': {'ref': {'name': 'int_monthly_revenue_by_file'}},
    },
) }}
select
    revenue.source_month,
    revenue.pickup_month,
    revenue.payment_type_id,
    payment_types.payment_type_name,
    revenue.trips,
    revenue.refunds
from {{ ref('int_monthly_revenue_by_file') }} as revenue
left join {{ ref('dim_payment_types') }} as payment_types
    on revenue.payment_type_id = payment_types.payment_type_id
where
    {{ in_window('revenue.source_month') }}
    and (
        revenue.trips <= 0
        or revenue.refunds not between 0 and revenue.trips
        or payment_types.payment_type_name is null
    )
