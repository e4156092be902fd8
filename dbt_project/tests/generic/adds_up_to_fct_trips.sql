{# In every month of the window the model holds the trips and the money of fct_trips, to the cent. #}
{% test adds_up_to_fct_trips(model) -%}
with mart as (
    select source_month, sum(trips) as trips, sum(total_amount) as total_amount
    from {{ model }}
    group by source_month
),

fact as (
    {{ fact_sums() }}
)

select source_month, mart.trips, fact.trips as fact_trips, mart.total_amount, fact.total_amount as fact_total_amount
from mart
full join fact using (source_month)
where mart.trips is distinct from fact.trips or mart.total_amount is distinct from fact.total_amount
{%- endtest %}
