"""Tables and figures from finished runs and evaluations."""
