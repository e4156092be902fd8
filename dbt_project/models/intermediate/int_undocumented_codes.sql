{{ config(group='core') }}

with documented as (
    select unnest(array['vendor', 'rate_code', 'payment_type', 'trip_type', 'zone']) as code_kind, -1 as code
    union all
    select 'vendor' as code_kind, vendor_id as code from {{ ref('tlc_vendors') }}
    union all
    select 'rate_code' as code_kind, rate_code_id as code from {{ ref('tlc_rate_codes') }}
    union all
    select 'payment_type' as code_kind, payment_type_id as code from {{ ref('tlc_payment_types') }}
    union all
    select 'trip_type' as code_kind, trip_type_id as code from {{ ref('tlc_trip_types') }}
    union all
    select 'zone' as code_kind, zone_id as code from {{ ref('stg_zones') }}
),

-- Few trips have an undocumented code: a filter before the grouping avoids grouping all trips.
trips as (
    select * from {{ ref('stg_trips') }}
    where
        {{ in_window('source_month') }}
        and (
            vendor_id <> all(array(select code from documented where code_kind = 'vendor'))
            or rate_code_id <> all(array(select code from documented where code_kind = 'rate_code'))
            or payment_type_id <> all(array(select code from documented where code_kind = 'payment_type'))
            or trip_type_id <> all(array(select code from documented where code_kind = 'trip_type'))
            or pickup_zone_id not in (select code from documented where code_kind = 'zone')
            or dropoff_zone_id not in (select code from documented where code_kind = 'zone')
        )
),

codes as (
    select trips.source_month, recorded.code_kind, recorded.code, count(distinct trips.source_row) as trips
    from trips
    cross join
        unnest(
            array['vendor', 'rate_code', 'payment_type', 'trip_type', 'zone', 'zone'],
            array[
                trips.vendor_id,
                trips.rate_code_id,
                trips.payment_type_id,
                trips.trip_type_id,
                trips.pickup_zone_id,
                trips.dropoff_zone_id
            ]
        ) as recorded (code_kind, code)
    group by trips.source_month, recorded.code_kind, recorded.code
),

final as (
    select codes.source_month, codes.code_kind, codes.code, codes.trips
    from codes
    left join documented on codes.code_kind = documented.code_kind and codes.code = documented.code
    where documented.code is null
)

select * from final
