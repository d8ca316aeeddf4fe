"""A namespace alive: memtable, segments, snapshots, writer and reader."""
