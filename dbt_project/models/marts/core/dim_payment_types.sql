{{ code_dimension(ref('tlc_payment_types'), ref('int_undocumented_codes'), 'payment_type') }}
