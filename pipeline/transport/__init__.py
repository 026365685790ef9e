"""HTTPS to partners: `port.py` says what it does, `https.py` does it with requests."""
