{#
    The relations of the schema, which dbt lists before a build, without the partitions of raw_trips: partitions are no
    nodes of dbt, and listing 150 of them with their dependencies took as long as most models.
#}
{% macro postgres__list_relations_without_caching(schema_relation) -%}
    {%- call statement('list_relations_without_caching', fetch_result=True) -%}
        {{ session_settings() }};
        select
            '{{ schema_relation.database }}' as database,
            pg_class.relname as name,
            '{{ schema_relation.schema }}' as schema,
            case pg_class.relkind when 'v' then 'view' when 'm' then 'materialized_view' else 'table' end as type
        from pg_class
        where
            pg_class.relnamespace = to_regnamespace('{{ schema_relation.schema }}')
            and pg_class.relkind in ('r', 'p', 'v', 'm')
            and not pg_class.relispartition
    {%- endcall -%}
    {{ return(load_result('list_relations_without_caching').table) }}
{%- endmacro %}

{# The relations that each view depends on. dbt's own query reads every dependency of every table in the database. #}
{% macro postgres__get_relations() -%}
    {%- call statement('relations', fetch_result=True) -%}
        {{ session_settings() }};
        select distinct
            '{{ target.schema }}' as dependent_schema,
            view.relname as dependent_name,
            referenced_namespace.nspname as referenced_schema,
            referenced.relname as referenced_name
        from pg_class as view
        inner join pg_rewrite on pg_rewrite.ev_class = view.oid
        inner join pg_depend
            on
                pg_depend.classid = 'pg_rewrite'::regclass
                and pg_depend.objid = pg_rewrite.oid
                and pg_depend.refclassid = 'pg_class'::regclass
                and pg_depend.refobjid <> view.oid
        inner join pg_class as referenced on pg_depend.refobjid = referenced.oid
        inner join pg_namespace as referenced_namespace on referenced.relnamespace = referenced_namespace.oid
        where
            view.relnamespace = to_regnamespace('{{ target.schema }}')
            and view.relkind in ('v', 'm')
            and referenced_namespace.nspname <> 'information_schema'
            and referenced_namespace.nspname not like 'pg\_%'
    {%- endcall -%}
    {{ return(load_result('relations').table) }}
{%- endmacro %}
