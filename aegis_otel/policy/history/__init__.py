"""The calls that went before: what a policy asks about them, what a call leaves, and a ledger in memory."""
