with revenue as (
    select
        pickup_month,
        payment_type_id,
        sum(trips)::bigint as trips,
        sum(refunds)::bigint as refunds,
        sum(net_trips)::bigint as net_trips,
        sum(fare_amount)::numeric(14, 2) as fare_amount,
        sum(extra)::numeric(14, 2) as extra,
        sum(mta_tax)::numeric(14, 2) as mta_tax,
        sum(tip_amount)::numeric(14, 2) as tip_amount,
        sum(tolls_amount)::numeric(14, 2) as tolls_amount,
        sum(ehail_fee)::numeric(14, 2) as ehail_fee,
        sum(improvement_surcharge)::numeric(14, 2) as improvement_surcharge,
        sum(congestion_surcharge)::numeric(14, 2) as congestion_surcharge,
        sum(cbd_congestion_fee)::numeric(14, 2) as cbd_congestion_fee,
        sum(total_amount)::numeric(14, 2) as total_amount
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
        revenue.fare_amount,
        revenue.extra,
        revenue.mta_tax,
        revenue.tip_amount,
        revenue.tolls_amount,
        revenue.ehail_fee,
        revenue.improvement_surcharge,
        revenue.congestion_surcharge,
        revenue.cbd_congestion_fee,
        revenue.total_amount
    from revenue
    left join payment_types on revenue.payment_type_id = payment_types.payment_type_id
)

select * from final
