{{ config(group='core') }}

with trips as not materialized (
    select * from {{ ref('stg_trips') }}
    where {{ in_window('source_month') }} and not is_rejected
),

refunds as materialized (
    select * from trips
    where is_refund
),

-- A hash lookup leaves out trips whose pickup time no refund has. PostgreSQL cannot estimate how few refunds there are
-- and would sort all trips for a join: 468,000 trips take 0.6 s of CPU with the lookup and 2.0 s with the sort.
candidates as (
    select * from trips
    where not is_refund and (pickup_at in (select pickup_at from refunds)) is true
),

pairs as (
    select
        refunds.source_month,
        refunds.source_row,
        candidates.source_row as refunded_source_row,
        count(*) over (partition by refunds.source_month, refunds.source_row) as refunded_trips,
        count(*) over (partition by candidates.source_month, candidates.source_row) as refunds
    from candidates
    inner join refunds
        on
            candidates.source_month = refunds.source_month
            and candidates.vendor_id = refunds.vendor_id
            and candidates.pickup_at = refunds.pickup_at
            and candidates.pickup_zone_id = refunds.pickup_zone_id
            and candidates.dropoff_zone_id = refunds.dropoff_zone_id
    where candidates.total_amount = -refunds.total_amount
),

final as (
    select source_month, source_row, refunded_source_row
    from pairs
    where refunded_trips = 1 and refunds = 1
)

select * from final
