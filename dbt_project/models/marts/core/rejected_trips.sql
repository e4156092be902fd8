select {{ trip_columns() }}, rejection_reasons
from {{ ref('stg_trips') }}
where {{ in_window('source_month') }} and is_rejected
