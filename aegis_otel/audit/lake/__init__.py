"""Seal the journal: complete files become Parquet segments."""
