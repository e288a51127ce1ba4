"""Find out what is governed of everything that an agent can reach."""
