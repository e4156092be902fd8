{%- set counts = {
    'outside_month_trips': 'is_outside_month',
    'refund_trips': 'is_refund',
    'zero_distance_trips': 'is_zero_distance',
    'over_12_hours_trips': 'is_over_12_hours',
    'missing_codes_trips': 'is_missing_codes',
    'unusual_value_trips': 'has_unusual_values',
    'unmatched_total_trips': 'not components_match_total',
    'implausible_distance_trips': 'has_implausible_distance',
    'invalid_duration_trips': 'has_invalid_duration',
} %}
{%- set fact_counts = {
    'unreliable_times_trips': 'has_unreliable_times',
    'unreliable_amounts_trips': 'has_unreliable_amounts',
    'refunded_trips': 'is_refunded',
    'tied_refund_trips': 'refunds_source_row is not null',
} %}

with raw_trips as (
    select source_month, count(*) as trips, coalesce(sum(total_amount), 0) as total_amount
    from {{ ref('stg_trips') }}
    where {{ in_window('source_month') }}
    group by source_month
),

fact as (
    select
        source_month,
        count(*) as trips,
        {% for name, flag in counts.items() -%}
        count(*) filter (where {{ flag }}) as {{ name }},
        {% endfor -%}
        {% for name, flag in fact_counts.items() -%}
        count(*) filter (where {{ flag }}) as {{ name }},
        {% endfor -%}
        coalesce(sum(total_amount), 0) as total_amount
    from {{ ref('fct_trips') }}
    where {{ in_window('source_month') }}
    group by source_month
),

rejected as (
    select
        source_month,
        count(*) as trips,
        {% for name, flag in counts.items() -%}
        count(*) filter (where {{ flag }}) as {{ name }},
        {% endfor -%}
        {% for reason in rejection_rules() -%}
        count(*) filter (where '{{ reason }}' = any(rejection_reasons)) as rejected_{{ reason }},
        {% endfor -%}
        coalesce(sum(total_amount), 0) as total_amount
    from {{ ref('rejected_trips') }}
    where {{ in_window('source_month') }}
    group by source_month
),

final as (
    select
        source_month,
        coalesce(raw_trips.trips, 0) as raw_trips,
        coalesce(fact.trips, 0) as fact_trips,
        coalesce(rejected.trips, 0) as rejected_trips,
        coalesce(raw_trips.total_amount, 0) as raw_total_amount,
        coalesce(fact.total_amount, 0) as fact_total_amount,
        coalesce(rejected.total_amount, 0) as rejected_total_amount,
        {% for name in counts -%}
        coalesce(fact.{{ name }}, 0) + coalesce(rejected.{{ name }}, 0) as {{ name }},
        {% endfor -%}
        {% for name in fact_counts -%}
        coalesce(fact.{{ name }}, 0) as {{ name }},
        {% endfor -%}
        {% for reason in rejection_rules() -%}
        coalesce(rejected.rejected_{{ reason }}, 0) as rejected_{{ reason }}{% if not loop.last %},{% endif %}
        {% endfor -%}
    from raw_trips
    full join fact using (source_month)
    full join rejected using (source_month)
)

select * from final
