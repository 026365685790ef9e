"""One file per command: SUMMARY, EXAMPLE, configure(parser), run(args) -> exit code. Imported only when the command is called."""
