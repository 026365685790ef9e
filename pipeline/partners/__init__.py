"""One folder per partner: URL, verb, headers, media type, id kind, how an answer is judged, how an unknown outcome is probed."""
