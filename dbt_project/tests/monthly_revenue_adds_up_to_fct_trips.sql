{{ config(
    severity='error',
    group='reporting',
    meta={
        'description':
            'In every month of the window monthly_revenue holds the trips and the money of fct_trips, to the '
            ~ 'cent, and the same fares, tips and tolls as hourly_zone_activity.',
        'dagster': {'ref': {'name': 'int_monthly_revenue_by_file'}},
    },
) }}
{%- set hourly_sums = ref('int_hourly_zone_activity_by_file') -%}
{#- Where the revenue is built without them, the hourly sums are those of the month as it was before. -#}
{%- set with_hourly =
    is_built_now('int_hourly_zone_activity_by_file') or not is_built_now('int_monthly_revenue_by_file') %}
with mart as (
    select
        source_month,
        sum(trips) as trips,
        sum(total_amount) as total_amount,
        sum(fare_amount) as fare_amount,
        sum(tip_amount) as tip_amount,
        sum(tolls_amount) as tolls_amount
    from {{ ref('int_monthly_revenue_by_file') }}
    where {{ in_window('source_month') }}
    group by source_month
),

{% if with_hourly -%}
hourly as (
    select
        source_month,
        sum(fare_amount) as fare_amount,
        sum(tip_amount) as tip_amount,
        sum(tolls_amount) as tolls_amount
    from {{ hourly_sums }}
    where {{ in_window('source_month') }}
    group by source_month
),

{% endif -%}
fact as (
    {{ fact_sums() }}
)

select source_month, mart.trips, fact.trips as fact_trips, mart.total_amount, fact.total_amount as fact_total_amount
from mart
full join fact using (source_month)
{% if with_hourly %}full join hourly using (source_month){% endif %}
where
    mart.trips is distinct from fact.trips
    or mart.total_amount is distinct from fact.total_amount
    {%- if with_hourly %}
    or mart.fare_amount is distinct from hourly.fare_amount
    or mart.tip_amount is distinct from hourly.tip_amount
    or mart.tolls_amount is distinct from hourly.tolls_amount
    {%- endif %}
