{#
    Every row satisfies every condition, in one scan. A condition that is NULL counts as satisfied, as with a CHECK
    constraint. One row for each broken condition and value of `by`: the month, day or key where it is broken, and
    how often.
#}
{% test rows_satisfy(model, conditions, by) -%}
select
    {{ by }},
    checked.condition,
    count(*) as rows_found
from {{ model }}
cross join lateral (
    values
    {%- for condition in conditions %}
    ('{{ condition | replace("'", "''") }}', {{ condition }}){{ "," if not loop.last }}
    {%- endfor %}
) as checked (condition, is_satisfied)
where
    (({{ conditions | join(') and (') }})) is false
    and not checked.is_satisfied
group by {{ by }}, checked.condition
{%- endtest %}
