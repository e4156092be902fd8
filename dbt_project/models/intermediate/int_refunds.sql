{{ config(group='core') }}

with trips as (
    select * from {{ ref('stg_trips') }}
    where {{ in_window('source_month') }} and not is_rejected
),

-- Few trips are refunds: they are the hashed side, which every other trip is looked up in once.
pairs as (
    select
        refund.source_month,
        refund.source_row,
        trip.source_row as refunded_source_row,
        count(*) over (partition by refund.source_month, refund.source_row) as refunded_trips,
        count(*) over (partition by trip.source_month, trip.source_row) as refunds
    from trips as trip
    inner join trips as refund
        on
            trip.source_month = refund.source_month
            and trip.vendor_id = refund.vendor_id
            and trip.pickup_at = refund.pickup_at
            and trip.pickup_zone_id = refund.pickup_zone_id
            and trip.dropoff_zone_id = refund.dropoff_zone_id
    where refund.is_refund and not trip.is_refund and trip.total_amount = -refund.total_amount
),

final as (
    select source_month, source_row, refunded_source_row
    from pairs
    where refunded_trips = 1 and refunds = 1
)

select * from final
