"""A load of governed agents to look at: `aegis demo`."""
