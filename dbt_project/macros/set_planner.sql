{#
    Settings of the transaction alone; other sessions keep their settings.
    - jit: a scan of raw_trips has an expression for each month's partition, and PostgreSQL compiles every expression:
      a test over 36 months took 30 seconds with JIT compilation and takes 1 without.
    - enable_indexscan: a month's rows are adjacent in fct_trips. A bitmap scan reads each page once; the index scan
      that PostgreSQL prefers reads the page again for each row and takes twice as long.
    - hash_mem_multiplier: the groups of 36 months of days and zones need 250 MB; with the default 2 × work_mem the
      embedded server spills half of that to disk, although little else needs memory during a build.
#}
{% macro planner_settings() -%}
    set local jit = off;
    set local enable_indexscan = off;
    set local hash_mem_multiplier = 8;
{%- endmacro %}

{#
    For a model whose groups have a few trips each: two processes would sum almost every group twice and then add the
    sums up. 24 months of hours and zones take 4.8 s of CPU in one process and 9.8 in two.
#}
{% macro group_in_one_process() -%}
    set local max_parallel_workers_per_gather = 0
{%- endmacro %}

{% macro set_planner() -%}
    {%- call statement('set_planner') -%}
        {{ planner_settings() }}
    {%- endcall -%}
{%- endmacro %}

{# dbt calls this macro for the query of a test. #}
{% macro postgres__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) -%}
    {{ session_settings() }};
    {{ planner_settings() }}
    {{ default__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) }}
{%- endmacro %}
