"""`hybatch debias`: language bias taken out of a finished encoder by what a corpus says of its languages' means."""
