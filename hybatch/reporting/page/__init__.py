"""A report as one page that opens in a browser."""
