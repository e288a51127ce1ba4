"""Write the journal: one append-only file per process, on disk before a call runs."""
