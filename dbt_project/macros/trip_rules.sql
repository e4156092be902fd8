{#
    Why a row of raw_trips does not count as a trip: reason -> condition. fct_trips, rejected_trips and trip_quality
    follow this list. Amounts: not a number, infinite, or a hundred million dollars and more. No trip of a New York taxi
    is longer than 500 miles.
#}
{% macro rejection_rules() -%}
    {%- set amounts -%}
        fare_amount, extra, mta_tax, tip_amount, tolls_amount, ehail_fee, improvement_surcharge, total_amount,
        congestion_surcharge, cbd_congestion_fee
    {%- endset -%}
    {{ return({
        'pickup_missing': "lpep_pickup_datetime is null",
        'pickup_far_outside_month':
            "lpep_pickup_datetime < source_month - 31"
            ~ " or lpep_pickup_datetime >= source_month + interval '1 month 31 days'",
        'dropoff_before_pickup': "lpep_dropoff_datetime < lpep_pickup_datetime",
        'implausible_distance': "trip_distance < 0 or trip_distance > 500",
        'impossible_amount': "greatest(" ~ amounts ~ ") >= 99999999 or least(" ~ amounts ~ ") <= -99999999",
    }) }}
{%- endmacro %}

{# True where at least one rule applies; a rule that cannot be decided (NULL) does not apply. #}
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

{# Values that are rare and worth a look; the trip counts all the same. #}
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
    Whether the parts of the fare add up to total_amount, to the cent. How they add up depends on who recorded the
    trip and on what was recorded (found in the real months of 2022 to 2025):
    - Creative Mobile Technologies (vendor 1) puts the surcharges into `extra` as well: the congestion surcharge
      always, the improvement surcharge from era B on, the congestion zone's fee in era C.
    - Where the congestion surcharge is NULL, total_amount still holds it: 2.75 dollars, or 3.50 with the congestion
      zone's fee.
    - Otherwise every part counts once. A part that an era does not have is NULL and counts nothing.
#}
{% macro components_match_total() -%}
    {%- set parts -%}
        total_amount - fare_amount - coalesce(extra, 0) - coalesce(mta_tax, 0) - coalesce(tip_amount, 0)
            - coalesce(tolls_amount, 0) - coalesce(ehail_fee, 0)
    {%- endset -%}
    {%- set surcharges -%}
        coalesce(improvement_surcharge, 0) + coalesce(congestion_surcharge, 0) + coalesce(cbd_congestion_fee, 0)
    {%- endset -%}
    (
        abs({{ parts }} - ({{ surcharges }})) < 0.015
        or (vendorid = 1 and abs({{ parts }}) < 0.015)
        or (vendorid = 1 and abs({{ parts }} - improvement_surcharge) < 0.015)
        or (
            congestion_surcharge is null
            and (
                abs({{ parts }} - ({{ surcharges }}) - 2.75) < 0.015
                or abs({{ parts }} - ({{ surcharges }}) - 3.50) < 0.015
            )
        )
    ) is true
{%- endmacro %}
