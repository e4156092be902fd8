with minutes as (
    select
        source_month,
        vendor_id,
        date_part('minute', pickup_at) as pickup_minute,
        count(*) as trips,
        count(*) filter (where components_match_total) as matched_trips
    from {{ ref('stg_trips') }}
    where {{ in_window('source_month') }} and not is_rejected
    group by source_month, vendor_id, date_part('minute', pickup_at)
),

vendors as (
    select
        source_month,
        vendor_id,
        sum(trips)::bigint as trips,
        max(trips) / sum(trips) as commonest_minute_share,
        sum(matched_trips) / sum(trips) as matched_total_share
    from minutes
    group by source_month, vendor_id
),

final as (
    select
        source_month,
        vendor_id,
        trips,
        commonest_minute_share::numeric(5, 4) as commonest_minute_share,
        matched_total_share::numeric(5, 4) as matched_total_share,
        trips >= {{ var('fewest_trips_to_judge') }}
        and commonest_minute_share >= {{ var('unreliable_minute_share') }} as has_unreliable_times,
        trips >= {{ var('fewest_trips_to_judge') }}
        and matched_total_share < {{ var('reliable_total_share') }} as has_unreliable_amounts
    from vendors
)

select * from final
