"""The stand-in of another party's XIS, and an issuer of tokens."""
