"""Bytes: keys, frames, manifest, write-ahead log entries, segment files. Pure functions, no I/O."""
