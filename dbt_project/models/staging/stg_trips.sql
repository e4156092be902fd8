with source as (
    select * from {{ source('raw', 'raw_trips') }}
),

-- Conditions read the source's columns: on the renamed ones PostgreSQL would compute every exact_cents once more.
renamed as (
    select
        source_month,
        source_row,
        vendorid as vendor_id,
        lpep_pickup_datetime as pickup_at,
        lpep_dropoff_datetime as dropoff_at,
        lpep_pickup_datetime::date as pickup_date,
        store_and_fwd_flag = 'Y' as is_store_and_forward,
        ratecodeid as rate_code_id,
        pulocationid as pickup_zone_id,
        dolocationid as dropoff_zone_id,
        passenger_count,
        {{ exact_cents('trip_distance') }} as trip_miles,
        date_part('epoch', lpep_dropoff_datetime - lpep_pickup_datetime)::bigint as trip_seconds,
        {{ exact_cents('fare_amount') }} as fare_amount,
        {{ exact_cents('extra') }} as extra,
        {{ exact_cents('mta_tax') }} as mta_tax,
        {{ exact_cents('tip_amount') }} as tip_amount,
        {{ exact_cents('tolls_amount') }} as tolls_amount,
        {{ exact_cents('ehail_fee') }} as ehail_fee,
        {{ exact_cents('improvement_surcharge') }} as improvement_surcharge,
        {{ exact_cents('congestion_surcharge') }} as congestion_surcharge,
        {{ exact_cents('cbd_congestion_fee') }} as cbd_congestion_fee,
        {{ exact_cents('total_amount') }} as total_amount,
        payment_type as payment_type_id,
        trip_type as trip_type_id,
        (lpep_pickup_datetime < source_month or lpep_pickup_datetime >= source_month + interval '1 month') is true
            as is_outside_month,
        (round(total_amount * 100) < 0) is true as is_refund,
        (trip_distance = 0) is true as is_zero_distance,
        (lpep_dropoff_datetime - lpep_pickup_datetime > interval '12 hours') is true as is_over_12_hours,
        (passenger_count is null and ratecodeid is null and payment_type is null and trip_type is null)
            as is_missing_codes,
        {{ has_unusual_values() }} as has_unusual_values,
        {{ components_match_total() }} as components_match_total,
        {{ is_rejected() }} as is_rejected,
        {{ rejection_reasons() }} as rejection_reasons
    from source
)

select * from renamed
