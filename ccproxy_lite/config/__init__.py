"""The configuration: a file or the environment becomes frozen values. Pure; what reads files is handed in."""
