{#
    The rules that reject a row of raw_trips: reason -> condition, on the columns of stg_trips before the exact types. A
    row counts if its time is usable and its amounts can be summed. Impossible amounts: not a number, infinite, or a
    hundred million dollars and more. fct_trips, rejected_trips and trip_quality use this list.
#}
{% macro rejection_rules() -%}
    {%- set amounts = amount_columns() | join(', ') -%}
    {%- set limit = impossible_dollars() -%}
    {{ return({
        'pickup_missing': "pickup_at is null",
        'pickup_far_outside_month':
            "pickup_at < source_month - 31 or pickup_at >= source_month + interval '1 month 31 days'",
        'impossible_amount':
            "greatest(" ~ amounts ~ ") >= " ~ limit ~ " or least(" ~ amounts ~ ") <= -" ~ limit,
    }) }}
{%- endmacro %}

{# True if at least one rule applies; a rule whose condition is NULL does not apply. #}
{% macro is_rejected() -%}
    (
    {%- for condition in rejection_rules().values() %}
        {{ "or " if not loop.first }}({{ condition }})
    {%- endfor %}
    ) is true
{%- endmacro %}

{% macro rejection_reasons() -%}
    array_remove(array[
    {%- for reason, condition in rejection_rules().items() %}
        case when {{ condition }} then '{{ reason }}' end{{ "," if not loop.last }}
    {%- endfor %}
    ], null)
{%- endmacro %}

{# No trip of a New York taxi is longer than 500 miles. #}
{% macro has_implausible_distance() -%}
    (trip_miles < 0 or trip_miles > 500) is true
{%- endmacro %}

{# Whether a wall-clock time of New York occurs twice: in November, in the night when the clocks go back. #}
{% macro occurs_twice(time) -%}
    ((({{ time }} at time zone 'America/New_York') - interval '1 hour') at time zone 'America/New_York' = {{ time }})
{%- endmacro %}

{#
    Whether New York's clocks may change on the day of a time: on Sundays in March and November. date_part of the
    weekday takes twice as long as the remainder of the days since a Sunday.
#}
{% macro clocks_may_change(time) -%}
    (({{ time }}::date - date '2000-01-02') % 7 = 0 and date_part('month', {{ time }}) in (3, 11))
{%- endmacro %}

{#
    Seconds between two wall-clock times of New York. When the clocks change, the seconds are not the difference of the
    times; other days skip the two conversions, which cost as much as reading the trip. A time that occurs twice gives
    two durations, so the result is NULL, unless only one of them is possible: the drop-off seems to precede the pickup,
    or the longer one exceeds 12 hours.
#}
{% macro elapsed_seconds(pickup_at, dropoff_at) -%}
    case
        when {{ clocks_may_change(dropoff_at) }}
            then
                case
                    when not {{ occurs_twice(pickup_at) }} and not {{ occurs_twice(dropoff_at) }}
                        then
                            date_part(
                                'epoch',
                                ({{ dropoff_at }} at time zone 'America/New_York')
                                - ({{ pickup_at }} at time zone 'America/New_York')
                            )
                    when
                        {{ occurs_twice(pickup_at) }} and {{ occurs_twice(dropoff_at) }}
                        and {{ dropoff_at }} < {{ pickup_at }}
                        then date_part('epoch', {{ dropoff_at }} - {{ pickup_at }}) + 3600
                    when {{ dropoff_at }} > {{ pickup_at }} + interval '11 hours'
                        then date_part('epoch', {{ dropoff_at }} - {{ pickup_at }})
                end
        else date_part('epoch', {{ dropoff_at }} - {{ pickup_at }})
    end
{%- endmacro %}

{#
    Whether the seconds between two times are from 0 to 12 hours; NULL where there is no duration. If the clocks cannot
    change on the day of the drop-off, the times are compared, which takes a third of computing the seconds.
#}
{% macro has_possible_duration(pickup_at, dropoff_at) -%}
    case
        when {{ clocks_may_change(dropoff_at) }}
            then {{ elapsed_seconds(pickup_at, dropoff_at) }} between 0 and 12 * 3600
        else {{ dropoff_at }} between {{ pickup_at }} and {{ pickup_at }} + interval '12 hours'
    end
{%- endmacro %}

{# Whether a trip is longer than 12 hours. The clocks change by one hour: few trips need their seconds. #}
{% macro is_over_12_hours(pickup_at, dropoff_at) -%}
    (
        {{ dropoff_at }} > {{ pickup_at }} + interval '11 hours'
        and {{ elapsed_seconds(pickup_at, dropoff_at) }} > 12 * 3600
    ) is true
{%- endmacro %}

{# Whether a trip has rare values that deserve attention; the trip counts. #}
{% macro has_unusual_values() -%}
    (
        passenger_count not between 0 and 9
        or greatest(fare_amount, extra, tip_amount, tolls_amount, total_amount) > 2000
        or least(fare_amount, extra, tip_amount, tolls_amount, total_amount) < -2000
        or greatest(mta_tax, ehail_fee, improvement_surcharge, congestion_surcharge, cbd_congestion_fee) > 10
        or least(mta_tax, ehail_fee, improvement_surcharge, congestion_surcharge, cbd_congestion_fee) < -10
    ) is true
{%- endmacro %}

{#
    Whether the parts of the fare add up to total_amount, but for a cent of rounding, in one of the ways that occur in
    the real months of 2022 to 2025:
    - Every part counts once. A part that an era lacks is NULL and counts as zero.
    - One vendor adds surcharges to `extra` as well: the congestion surcharge always, the improvement surcharge from
      era B on, the congestion zone's fee in era C. A condition on the vendor would change hardly a trip.
    - If the congestion surcharge is NULL, total_amount still includes it, and may include the congestion zone's fee.
#}
{% macro components_match_total() -%}
    {%- set parts -%}
        total_amount - fare_amount - coalesce(extra, 0) - coalesce(mta_tax, 0) - coalesce(tip_amount, 0)
            - coalesce(tolls_amount, 0) - coalesce(ehail_fee, 0)
    {%- endset -%}
    {%- set surcharges -%}
        coalesce(improvement_surcharge, 0) + coalesce(congestion_surcharge, 0) + coalesce(cbd_congestion_fee, 0)
    {%- endset -%}
    {%- set unrecorded = var('congestion_surcharge') -%}
    (
        abs({{ parts }} - ({{ surcharges }})) < 0.015
        or abs({{ parts }}) < 0.015
        or abs({{ parts }} - improvement_surcharge) < 0.015
        or (
            congestion_surcharge is null
            and (
                abs({{ parts }} - ({{ surcharges }}) - {{ unrecorded }}) < 0.015
                or abs({{ parts }} - ({{ surcharges }}) - {{ unrecorded + var('cbd_congestion_fee') }}) < 0.015
            )
        )
    ) is true
{%- endmacro %}
