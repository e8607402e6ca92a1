"""The tasks: what is asked, of which candidates, and what answers it; one small file each."""
