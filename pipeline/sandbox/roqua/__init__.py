"""RoQua's stand-in."""
