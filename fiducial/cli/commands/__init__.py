"""One file = one command, found here by its name: a function named as the file. A folder = a group of commands.

`ORDER` places it in the help (small ones first), `AFTER_STOP` says how to go on after Ctrl-C."""
