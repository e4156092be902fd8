{{ code_dimension(ref('tlc_trip_types'), ref('int_undocumented_codes'), 'trip_type') }}
