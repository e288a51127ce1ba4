"""The ways to sign in to the page: OpenID Connect, the headers of a trusted proxy, and a printed link."""
