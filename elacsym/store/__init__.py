"""The object store protocol, its implementations and its wrappers."""
