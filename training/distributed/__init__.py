"""Several processes that train one graph in rounds: starting them, their messages, the group they form."""
