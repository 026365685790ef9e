"""The web part: what a person or a machine may look at. It decides nothing and sends nothing."""
