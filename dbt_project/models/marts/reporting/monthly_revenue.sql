with revenue as (
    select
        pickup_month,
        payment_type_id,
        sum(trips)::bigint as trips,
        sum(refunds)::bigint as refunds,
        sum(net_trips)::bigint as net_trips,
        {% for amount in amount_columns() -%}
        sum({{ amount }})::numeric(14, 2) as {{ amount }}{% if not loop.last %},{% endif %}
        {% endfor -%}
    from {{ ref('int_monthly_revenue_by_file') }}
    group by pickup_month, payment_type_id
),

payment_types as (
    select * from {{ ref('dim_payment_types') }}
),

final as (
    select
        revenue.pickup_month,
        revenue.payment_type_id,
        payment_types.payment_type_name,
        revenue.trips,
        revenue.refunds,
        revenue.net_trips,
        {% for amount in amount_columns() -%}
        revenue.{{ amount }}{% if not loop.last %},{% endif %}
        {% endfor -%}
    from revenue
    left join payment_types on revenue.payment_type_id = payment_types.payment_type_id
)

select * from final
