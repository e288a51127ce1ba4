"""Tools for whoever writes policies: tests of a policy, comparisons of two, and first drafts."""
