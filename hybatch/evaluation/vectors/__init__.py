"""What the vectors of one encoding are worth when they are cut short and stored in fewer bits."""
