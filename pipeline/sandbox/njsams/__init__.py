"""NJSAMS's stand-in, and its authorization server."""
