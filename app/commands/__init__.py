"""The subcommands, one a file, each with `run(arguments) -> exit status`; imported only when they run."""
