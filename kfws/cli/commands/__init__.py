"""One module per command: build a plan, run it."""
