"""The pure core: what is decided about a call, asked, recorded and refused, in what order."""
