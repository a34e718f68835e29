"""Export a converted network, and see that what runs elsewhere is what runs here: one file for each format."""
