{{ config(indexes=[{'columns': ['pickup_at', 'pickup_date'], 'type': 'brin'}]) }}

select {{ trip_columns() }}
from {{ ref('stg_trips') }}
where {{ in_window('source_month') }} and not is_rejected
