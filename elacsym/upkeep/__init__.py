"""Background work on segments: compaction, garbage collection, scrub."""
