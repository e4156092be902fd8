with trips as (
    select * from {{ ref('fct_trips') }}
),

dates as (
    select * from {{ ref('dim_dates') }}
),

vendors as (
    select * from {{ ref('dim_vendors') }}
),

rate_codes as (
    select * from {{ ref('dim_rate_codes') }}
),

payment_types as (
    select * from {{ ref('dim_payment_types') }}
),

trip_types as (
    select * from {{ ref('dim_trip_types') }}
),

zones as (
    select * from {{ ref('dim_zones') }}
),

final as (
    select
        trips.source_month,
        trips.source_row,
        trips.vendor_id,
        vendors.vendor_name,
        trips.pickup_at,
        trips.dropoff_at,
        trips.pickup_date,
        dates.pickup_month,
        date_part('hour', trips.pickup_at)::integer as pickup_hour,
        dates.weekday,
        dates.weekday_name,
        dates.is_weekend,
        trips.is_store_and_forward,
        trips.rate_code_id,
        rate_codes.rate_code_name,
        trips.pickup_zone_id,
        pickup_zones.zone_name as pickup_zone_name,
        pickup_zones.borough as pickup_borough,
        pickup_zones.is_airport as is_airport_pickup,
        trips.dropoff_zone_id,
        dropoff_zones.zone_name as dropoff_zone_name,
        dropoff_zones.borough as dropoff_borough,
        dropoff_zones.is_airport as is_airport_dropoff,
        trips.passenger_count,
        trips.trip_miles,
        trips.trip_seconds,
        case
            when trips.trip_miles > 0
                then (trips.trip_miles * 3600 / nullif(trips.trip_seconds, 0))::numeric(10, 2)
            else null::numeric(10, 2)
        end as miles_per_hour,
        trips.fare_amount,
        trips.extra,
        trips.mta_tax,
        trips.tip_amount,
        trips.tolls_amount,
        trips.ehail_fee,
        trips.improvement_surcharge,
        trips.congestion_surcharge,
        trips.cbd_congestion_fee,
        trips.total_amount,
        trips.payment_type_id,
        payment_types.payment_type_name,
        trips.trip_type_id,
        trip_types.trip_type_name,
        trips.is_outside_month,
        trips.is_refund,
        trips.is_refunded,
        trips.refunds_source_row,
        trips.is_zero_distance,
        trips.is_over_12_hours,
        trips.is_missing_codes,
        trips.has_unusual_values,
        trips.components_match_total,
        trips.has_implausible_distance,
        trips.has_invalid_duration,
        trips.has_unreliable_times,
        trips.has_unreliable_amounts
    from trips
    left join dates on trips.pickup_date = dates.pickup_date
    left join vendors on trips.vendor_id = vendors.vendor_id
    left join rate_codes on trips.rate_code_id = rate_codes.rate_code_id
    left join payment_types on trips.payment_type_id = payment_types.payment_type_id
    left join trip_types on trips.trip_type_id = trip_types.trip_type_id
    left join zones as pickup_zones on trips.pickup_zone_id = pickup_zones.zone_id
    left join zones as dropoff_zones on trips.dropoff_zone_id = dropoff_zones.zone_id
)

select * from final
