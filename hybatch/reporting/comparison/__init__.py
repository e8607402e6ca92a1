"""Two or more results, question by question: what `hybatch compare` writes."""
