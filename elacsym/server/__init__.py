"""The HTTP edge: routes, codecs, authentication, errors."""
