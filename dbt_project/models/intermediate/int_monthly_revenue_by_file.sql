{{ config(group='reporting') }}

with trips as (
    select * from {{ ref('fct_trips') }}
    where {{ in_window('source_month') }}
),

-- Grouped by day first: truncating a date to its month costs as much as the sum, and days are far fewer than trips.
daily as (
    select
        source_month,
        pickup_date,
        payment_type_id,
        count(*) as trips,
        count(*) filter (where is_refund) as refunds,
        count(*) filter (where not is_refund and not is_refunded) as net_trips,
        {% for amount in amount_columns() -%}
        coalesce(sum({{ amount }}), 0) as {{ amount }}{% if not loop.last %},{% endif %}
        {% endfor -%}
    from trips
    group by source_month, pickup_date, payment_type_id
),

final as (
    select
        source_month,
        date_trunc('month', pickup_date)::date as pickup_month,
        payment_type_id,
        sum(trips)::bigint as trips,
        sum(refunds)::bigint as refunds,
        sum(net_trips)::bigint as net_trips,
        {% for amount in amount_columns() -%}
        sum({{ amount }}) as {{ amount }}{% if not loop.last %},{% endif %}
        {% endfor -%}
    from daily
    group by source_month, date_trunc('month', pickup_date), payment_type_id
)

select * from final
