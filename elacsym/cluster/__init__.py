"""Ring, membership, routing."""
