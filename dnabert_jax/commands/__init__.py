"""What each `dnabert` subcommand takes and does. Every function's signature and docstring are its flags and its help.

Imports of the heavy parts are inside the functions, so that `dnabert --help` and bad flags answer at once.
"""
