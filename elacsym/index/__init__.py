"""Vector, text, id indexes of one part; the tokenizers."""
