{{ code_dimension(ref('tlc_vendors'), ref('int_undocumented_codes'), 'vendor') }}
