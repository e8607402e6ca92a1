"""What goes into a batch with an example: its other positives, translations, whatever else answers it."""
