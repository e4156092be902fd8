with documented as (
    select
        zone_id,
        -- Zone 264 is the borough 'Unknown' without a name, 265 the zone 'Outside of NYC' without a borough.
        case when zone_name = 'N/A' then borough else zone_name end as zone_name,
        case when borough = 'N/A' then zone_name else borough end as borough,
        case
            when service_zone = 'EWR' then 'Airports'
            when service_zone = 'N/A' and borough = 'N/A' then zone_name
            when service_zone = 'N/A' then borough
            else service_zone
        end as service_zone,
        service_zone in ('Airports', 'EWR') as is_airport,
        true as is_documented
    from {{ ref('stg_zones') }}
),

undocumented as (
    select distinct
        code as zone_id,
        'Unknown (' || code || ')' as zone_name,
        'Unknown' as borough,
        'Unknown' as service_zone,
        false as is_airport,
        false as is_documented
    from {{ ref('int_undocumented_codes') }}
    where
        code_kind = 'zone'
        and code <> -1
        and code not in (select zone_id from documented)
),

not_recorded as (
    select
        -1 as zone_id,
        'Not recorded' as zone_name,
        'Not recorded' as borough,
        'Not recorded' as service_zone,
        false as is_airport,
        false as is_documented
),

final as (
    select * from documented
    union all
    select * from undocumented
    union all
    select * from not_recorded
)

select * from final
