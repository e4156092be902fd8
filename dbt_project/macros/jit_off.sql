{#
    A scan of raw_trips has an expression for each month's partition, and PostgreSQL compiles every one of them: 36 months took
    30 seconds with JIT compilation that take 1 without. It is a matter of the transaction, so that other sessions keep it.
#}
{% macro jit_off() -%}
    {%- call statement('jit_off') -%}
        set local jit = off
    {%- endcall -%}
{%- endmacro %}

{# dbt's hook for the query of a test. #}
{% macro postgres__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) -%}
    set local jit = off;
    {{ default__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) }}
{%- endmacro %}
