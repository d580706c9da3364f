"""Recurrence rules, RFC 5545: their text, what it means, and the wall-clock times that match.

`text` takes one apart, `rule` judges its parts, `days`, `years` and `seconds` know what matches,
`times` puts them together. dateutil is asked for the days alone: it walks from the start of a
rule, and a row of the table could have it walk for hours.
"""
