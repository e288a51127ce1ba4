"""The log of seals: which journal files are sealed as which segments, chained and signed."""
