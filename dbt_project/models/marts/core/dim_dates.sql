-- From 31 days before the first file on; no pickup of a file is later than 31 days after it was published.
-- Timestamps: a series from date to date is in the session's time zone, and loses a day where a midnight is skipped.
with days as (
    select calendar_day::date as pickup_date
    from generate_series(timestamp '2013-07-01', current_date + 31, interval '1 day') as calendar_day
),

final as (
    select
        pickup_date,
        date_trunc('month', pickup_date)::date as pickup_month,
        date_part('year', pickup_date)::integer as pickup_year,
        date_part('month', pickup_date)::integer as month_of_year,
        date_part('isodow', pickup_date)::integer as weekday, -- noqa: RF04
        trim(to_char(pickup_date, 'Day')) as weekday_name,
        date_part('isodow', pickup_date) >= 6 as is_weekend
    from days
)

select * from final
