"""The command line: thin commands over the library, one file each.

- ``app``: registers the commands; turns errors into one line and an exit code.
- ``console``: log lines, progress, tables; the options every command has.
- ``NAME_command``: one command. Its module imports the library inside the function, so that
  ``quantkit --help`` stays instant.
"""
