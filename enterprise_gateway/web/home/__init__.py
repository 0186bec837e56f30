"""The pages that a browser gets: the front page, and errors."""
