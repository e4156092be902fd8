with months as (
    select
        pickup_month,
        {{ added_measures() }},
        -- From the rows that are added up: another table may be built from another state of the month's file.
        bool_or(source_month = pickup_month) as is_complete
    from {{ ref('int_zone_flows_by_file') }}
    group by pickup_month
),

summary as (
    select
        *,
        date_part('day', pickup_month + interval '1 month' - interval '1 day')::integer as days -- noqa: RF04
    from months
),

final as (
    select
        summary.*,
        case
            when summary.is_complete then (summary.trips::numeric / summary.days)::numeric(14, 4)
            else null::numeric(14, 4)
        end as trips_per_day,
        year_before.trips as trips_year_before,
        year_before.total_amount as total_amount_year_before,
        case
            when summary.is_complete then (summary.trips::numeric / year_before.trips - 1)::numeric(14, 4)
            else null::numeric(14, 4)
        end as trips_change,
        case
            when summary.is_complete
                then (summary.total_amount / nullif(year_before.total_amount, 0) - 1)::numeric(14, 4)
            else null::numeric(14, 4)
        end as total_amount_change,
        {{ measure_quotients('summary') }}
    from summary
    left join summary as year_before
        on summary.pickup_month = year_before.pickup_month + interval '1 year' and year_before.is_complete
)

select * from final
