{{ code_dimension(ref('tlc_rate_codes'), ref('undocumented_codes'), 'rate_code') }}
