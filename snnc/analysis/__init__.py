"""What is known of a graph without running it: one question a file, answered by one rule for each kind of operation."""
