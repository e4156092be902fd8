{{ code_dimension(ref('tlc_payment_types'), ref('undocumented_codes'), 'payment_type') }}
