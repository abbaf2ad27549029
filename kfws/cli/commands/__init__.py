"""One module per command: build a plan, run it.

A module is imported when its command is called or completed; the help page of the program needs
no more than these summaries, which are the first paragraphs of the commands' own texts.
"""

__all__ = ["COMMANDS", "GROUPS"]

COMMANDS = {
    "subscribe": "Stream feeds: to the screen, a pipe, or files.",
    "book": "Show order books: a ladder on a terminal, lines in a pipe.",
    "replay": "Play tapes again, through the outputs of `kfws subscribe`.",
    "feeds": "List the feeds.",
    "products": "List the products of the venue.",
    "sim": "Run a local venue with a simulated market, to try out and test.",
    "verify": "Say what is on tapes and what is missing, number by number.",
    "merge": "Make one tape out of several of the same feeds.",
    "convert": "Convert tapes to Parquet or csv, one feed a file.",
    "request": "Make one REST call, signed if there is a key; print the answer.",
    "doctor": "Say what works from here, and what to do about what does not.",
}
GROUPS = {
    "auth": "Keep an API key, and see whether it works.",
    "config": "Defaults for options: what is set, and where.",
}
"""Commands that have commands."""
