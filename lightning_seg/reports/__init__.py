"""What a person reads: tables on the terminal, the page of a run."""
