"""First policies: what `aegis policy init` writes for an agent, or from what an audit saw."""
