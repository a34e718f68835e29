"""Reading what users calibrate and evaluate on: images and arrays, with or without labels."""
