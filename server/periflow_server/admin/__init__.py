"""``pf-server admin``: what an administrator does on the server's own machine, a module a noun."""
