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
        coalesce(sum(fare_amount), 0) as fare_amount,
        coalesce(sum(extra), 0) as extra,
        coalesce(sum(mta_tax), 0) as mta_tax,
        coalesce(sum(tip_amount), 0) as tip_amount,
        coalesce(sum(tolls_amount), 0) as tolls_amount,
        coalesce(sum(ehail_fee), 0) as ehail_fee,
        coalesce(sum(improvement_surcharge), 0) as improvement_surcharge,
        coalesce(sum(congestion_surcharge), 0) as congestion_surcharge,
        coalesce(sum(cbd_congestion_fee), 0) as cbd_congestion_fee,
        coalesce(sum(total_amount), 0) as total_amount
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
        sum(fare_amount) as fare_amount,
        sum(extra) as extra,
        sum(mta_tax) as mta_tax,
        sum(tip_amount) as tip_amount,
        sum(tolls_amount) as tolls_amount,
        sum(ehail_fee) as ehail_fee,
        sum(improvement_surcharge) as improvement_surcharge,
        sum(congestion_surcharge) as congestion_surcharge,
        sum(cbd_congestion_fee) as cbd_congestion_fee,
        sum(total_amount) as total_amount
    from daily
    group by source_month, date_trunc('month', pickup_date), payment_type_id
)

select * from final
