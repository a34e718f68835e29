"""Networks in the formats of others, one file or folder per format."""
