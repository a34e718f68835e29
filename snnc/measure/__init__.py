"""What is measured of a conversion: which figures there are, and what they are held to."""
