{#
    Sums over trips, each with the number of its trips, so that quotients have the right divisor. Descriptions:
    models/columns.md.

    A sum over most trips is the total minus the rest, and zeros are filtered out: the first value of a group is the
    expensive one in a numeric sum. Zone flows take a fifth less time with these two measures.
#}
{% macro trip_measures() -%}
    count(*) as trips,
    count(*) filter (where not is_refund and not is_refunded) as net_trips,
    count(*) filter (where trip_miles > 0) as trips_with_distance,
    count(*) filter (where trip_seconds > 0) as trips_with_duration,
    count(passenger_count) as trips_with_passengers,
    count(*) filter (where cbd_congestion_fee > 0) as trips_with_cbd_fee,
    coalesce(sum(passenger_count), 0) as passengers,
    coalesce(sum(trip_miles), 0) as trip_miles,
    coalesce(sum(trip_seconds::integer), 0) as trip_seconds,
    count(*) filter (where trip_miles > 0 and trip_seconds > 0) as timed_trips,
    coalesce(sum(trip_miles), 0)
    - coalesce(sum(trip_miles) filter (where (trip_seconds > 0) is not true), 0) as timed_miles,
    coalesce(sum(trip_seconds::integer) filter (where trip_miles > 0 and trip_seconds > 0), 0) as timed_seconds,
    coalesce(sum(total_amount), 0)
    - coalesce(sum(total_amount) filter (where (trip_miles > 0) is not true), 0) as distance_total_amount,
    coalesce(sum(total_amount), 0)
    - coalesce(sum(total_amount) filter (where payment_type_id <> 1), 0) as card_total_amount,
    coalesce(sum(tip_amount) filter (where tip_amount <> 0), 0)
    - coalesce(sum(tip_amount) filter (where tip_amount <> 0 and payment_type_id <> 1), 0) as card_tip_amount,
    coalesce(sum(fare_amount), 0) as fare_amount,
    coalesce(sum(tip_amount) filter (where tip_amount <> 0), 0) as tip_amount,
    coalesce(sum(tolls_amount) filter (where tolls_amount <> 0), 0) as tolls_amount,
    coalesce(sum(total_amount), 0) as total_amount
{%- endmacro %}

{# The measures summed over rows that already have measures: miles and dollars are decimals, the others are counts. #}
{% macro added_measures() -%}
    {%- for name in [
        'trips', 'net_trips', 'trips_with_distance', 'trips_with_duration', 'trips_with_passengers', 'trips_with_cbd_fee',
        'passengers', 'trip_miles', 'trip_seconds', 'timed_trips', 'timed_miles', 'timed_seconds',
        'distance_total_amount', 'card_total_amount', 'card_tip_amount', 'fare_amount', 'tip_amount', 'tolls_amount',
        'total_amount',
    ] %}
    {%- set type = 'numeric(14, 2)' if name.endswith(('_miles', '_amount')) else 'bigint' %}
    sum({{ name }})::{{ type }} as {{ name }}{{ "," if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{# The quotients of the measures of a relation. #}
{% macro measure_quotients(relation) -%}
    ({{ relation }}.timed_miles * 3600 / nullif({{ relation }}.timed_seconds, 0))::numeric(14, 4)
        as miles_per_hour,
    ({{ relation }}.distance_total_amount / nullif({{ relation }}.trip_miles, 0))::numeric(14, 4)
        as dollars_per_mile,
    ({{ relation }}.passengers::numeric / nullif({{ relation }}.trips_with_passengers, 0))::numeric(14, 4)
        as passengers_per_trip,
    ({{ relation }}.card_tip_amount / nullif({{ relation }}.card_total_amount - {{ relation }}.card_tip_amount, 0))::numeric(14, 4)
        as card_tip_share
{%- endmacro %}

{# Whether this invocation of dbt builds a model. Dagster builds some models alone: the others are old or missing then. #}
{% macro is_built_now(name) -%}
    {{ return('model.' ~ project_name ~ '.' ~ name in selected_resources) }}
{%- endmacro %}

{# The trips and the amounts of fct_trips by month of the window, from trip_quality, which sums them anyway. #}
{% macro fact_sums() -%}
    {%- set sums, facts = ref('trip_quality'), ref('fct_trips') %}
    {%- if is_built_now('trip_quality') %}
    select source_month, fact_trips as trips, fact_total_amount as total_amount
    from {{ sums }}
    where {{ in_window('source_month') }} and fact_trips > 0
    {%- else %}
    select source_month, count(*) as trips, sum(total_amount) as total_amount
    from {{ facts }}
    where {{ in_window('source_month') }}
    group by source_month
    {%- endif %}
{%- endmacro %}
