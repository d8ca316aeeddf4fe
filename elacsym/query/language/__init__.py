"""The query language: one parser each for filters, rankings, aggregations and computed attributes.

JSON values in, the values of `elacsym.query.ast` out. Only shapes are judged here; rules that need the schema
are checked where queries are validated.
"""
