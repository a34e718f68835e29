"""What a user can ask for: one function for each command, in a file of the command's name."""
