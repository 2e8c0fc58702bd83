"""What a program calls: one function for each command, and the command line calls these. `import fiducial` names them."""
