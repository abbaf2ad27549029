"""The command line. Knows everyone; nobody knows it."""
