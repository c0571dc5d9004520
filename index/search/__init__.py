"""The searchers the service uses: one protocol, several implementations, judged by the exact one."""
