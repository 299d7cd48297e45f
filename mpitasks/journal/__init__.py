"""Finished results on disk, so that the same command run again has them at once."""
