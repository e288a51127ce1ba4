"""Ask a human about a call: at once, or by a question that outlives the process."""
