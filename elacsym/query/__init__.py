"""The query languages and their execution over parts: filters, ranking, aggregation, fusion."""
