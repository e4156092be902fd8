{{ code_dimension(ref('tlc_rate_codes'), ref('int_undocumented_codes'), 'rate_code') }}
