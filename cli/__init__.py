"""The command `twhin`; each subcommand imports its package only when it is called."""
