{# No two rows with the same key, and no NULL in it: one row for each key that breaks this. #}
{% test unique_combination_of_columns(model, combination_of_columns) -%}
{%- set key = combination_of_columns | join(', ') -%}
select
    {{ key }},
    count(*) as rows_found
from {{ model }}
group by {{ key }}
having
    count(*) > 1
    {%- for column in combination_of_columns %}
    or count(*) <> count({{ column }})
    {%- endfor %}
{%- endtest %}
