{{ code_dimension(ref('tlc_trip_types'), ref('undocumented_codes'), 'trip_type') }}
