"""One file per command; each has ``main(arguments) -> exit code`` and imports nothing before it runs."""
