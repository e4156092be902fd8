{#
    The members of a code: those of the TLC's data dictionary, undocumented ones that occur in the data, and -1 for a
    code that was not recorded.
#}
{% macro code_dimension(dictionary, undocumented_codes, code_kind) -%}
{%- set id_column = code_kind ~ '_id' -%}
{%- set name_column = code_kind ~ '_name' -%}
with documented as (
    select {{ id_column }}, {{ name_column }}, true as is_documented
    from {{ dictionary }}
),

undocumented as (
    select distinct code as {{ id_column }}, 'Unknown (' || code || ')' as {{ name_column }}, false as is_documented
    from {{ undocumented_codes }}
    where
        code_kind = '{{ code_kind }}'
        and code <> -1
        and code not in (select {{ id_column }} from documented)
),

not_recorded as (
    select -1 as {{ id_column }}, 'Not recorded' as {{ name_column }}, false as is_documented
),

final as (
    select * from documented
    union all
    select * from undocumented
    union all
    select * from not_recorded
)

select * from final
{%- endmacro %}
