select {{ trip_columns('trips') }}, trips.rejection_reasons
from {{ ref('stg_trips') }} as trips
where {{ in_window('trips.source_month') }} and trips.is_rejected
