{{ code_dimension(ref('tlc_rate_codes'), ref('undocumented_codes'), 'rate_code', 'rate_code_id', 'rate_code_name') }}
