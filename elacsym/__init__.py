"""elacsym: vector, full-text and hybrid search whose only durable state is a bucket."""

__version__ = "0.1.0"
