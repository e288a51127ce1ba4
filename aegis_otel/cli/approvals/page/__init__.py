"""The page of `aegis approvals serve`: questions as a person sees and answers them in a browser."""
