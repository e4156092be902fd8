{#
    The window: the months of files (source_month) that this invocation builds, from window_start (included) to
    window_end (excluded), both the first day of a month. Without both variables, the window is every month.

    The manifest is parsed once, without variables, and later invocations reuse it: so variables are read when a node is
    compiled for execution, never while parsing.
#}

{% macro window_bound(name) -%}
    {%- set value = var(name, none) -%}
    {%- if value is none or value | string == '' -%}
        {{ return(none) }}
    {%- endif -%}
    {%- if not modules.re.match('^\\d{4}-(0[1-9]|1[0-2])-01$', value | string) -%}
        {{ exceptions.raise_compiler_error(
            "The variable " ~ name ~ " is '" ~ value ~ "', but it must be the first day of a month, written as"
            ~ " 2024-01-01."
        ) }}
    {%- endif -%}
    {{ return(value | string) }}
{%- endmacro %}

{#
    A predicate on a source_month column for the rows of the window, with two constants, so that PostgreSQL prunes
    partitions.
#}
{% macro in_window(column) -%}
    {%- if not execute -%}
        {{ return('true') }}
    {%- endif -%}
    {%- set start = window_bound('window_start') -%}
    {%- set end = window_bound('window_end') -%}
    {%- if start is none and end is none -%}
        {{ return('true') }}
    {%- endif -%}
    {%- if start is none or end is none -%}
        {{ exceptions.raise_compiler_error(
            "Only one of window_start (" ~ start ~ ") and window_end (" ~ end ~ ") is set: give both, or neither for"
            ~ " every month."
        ) }}
    {%- endif -%}
    {%- if start >= end -%}
        {{ exceptions.raise_compiler_error(
            "The window from " ~ start ~ " to " ~ end ~ " is empty: window_end is excluded, so it must come after"
            ~ " window_start."
        ) }}
    {%- endif -%}
    {%- if flags.FULL_REFRESH -%}
        {{ exceptions.raise_compiler_error(
            "--full-refresh together with the window from " ~ start ~ " to " ~ end ~ " would rebuild the tables from"
            ~ " these months alone and so cut all other months off: leave --full-refresh out to replace the window, or"
            ~ " leave the window out to rebuild every month."
        ) }}
    {%- endif -%}
    {{ return(column ~ " >= date '" ~ start ~ "' and " ~ column ~ " < date '" ~ end ~ "'") }}
{%- endmacro %}

{#
    dbt calls this macro for the `where` of generic tests. `where: __window__` stands for the window: a `where` rendered
    from variables in the yml would be fixed when the manifest is parsed.
#}
{% macro get_where_subquery(relation) -%}
    {%- set where = config.get('where') or '' -%}
    {%- if where == '__window__' -%}
        {%- set where = in_window('source_month') -%}
    {%- endif -%}
    {%- if where -%}
        {{ return('(select * from ' ~ relation ~ ' where ' ~ where ~ ') dbt_subquery') }}
    {%- endif -%}
    {{ return(relation) }}
{%- endmacro %}
