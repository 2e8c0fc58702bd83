"""In every Python process that starts with this folder on its path: name look-ups and connections are refused and written
down in $NETWORK_LOG, but for those of this machine itself."""

import os
import sys

HERE = (None, "", "localhost", "127.0.0.1", "::1", b"localhost", "0.0.0.0")
LOOKS_UP = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
SENDS = ("socket.connect", "socket.sendto", "socket.sendmsg")


def _refuse(event, arguments):
    if event in LOOKS_UP:
        host = arguments[0]
    elif event in SENDS and isinstance(arguments[1], tuple):  # a Unix socket's address is text
        host = arguments[1][0]
    else:
        return
    if host not in HERE:
        with open(os.environ["NETWORK_LOG"], "a") as log:
            log.write(f"{event} {host} of {sys.argv}\n")
        raise OSError(101, f"Network is unreachable: {host}")


sys.addaudithook(_refuse)
