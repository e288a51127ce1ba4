"""The audit as one page for people: `aegis report`."""
