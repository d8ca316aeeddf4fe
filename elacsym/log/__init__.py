"""One namespace's log: claims, group commit, fencing, tailing."""
