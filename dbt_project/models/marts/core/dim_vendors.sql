{{ code_dimension(ref('tlc_vendors'), ref('undocumented_codes'), 'vendor') }}
