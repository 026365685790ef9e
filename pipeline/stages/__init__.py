"""One file per hop; each takes one frozen value and returns the next, or raises Ended. No I/O but in send."""
