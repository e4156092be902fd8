with documented as (
    select
        zone_id,
        zone_name,
        borough,
        service_zone,
        true as is_documented
    from {{ ref('stg_zones') }}
),

undocumented as (
    select distinct
        code as zone_id,
        'Unknown (' || code || ')' as zone_name,
        'Unknown' as borough,
        'N/A' as service_zone,
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
        'Unknown' as borough,
        'N/A' as service_zone,
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
