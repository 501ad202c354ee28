"""The service and the command line: they translate between HTTP or files and `assessor`, and compute nothing.

Read in this order: `main` (the application), `routes/` (one resource a file), `ingest` (a body becomes a profile),
`records`, `database` and `storage` (what is kept), `problems` (every error). `cli` is the command line, `commands/` its
subcommands. Importing this package starts nothing.
"""
