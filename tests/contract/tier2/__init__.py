"""Tier2: a suite that says whether a database keeps the data contract, whoever made it.

It is written from the contract alone and imports nothing of ggend: it is the second opinion.
`promise` holds the contract as values, `replica` makes an empty copy of a target to probe; the
checks are in `structure`, `words`, `effects`, `recent`, `summaries`, `transactions` and `flows`,
and `suite` puts them together. A target is never written to.
"""
