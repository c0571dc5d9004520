"""The handlers: each reads a call, asks the parts below, and makes a reply."""
