"""How large a split has to be for its scores to tell something."""

FEW_UNITS = 20  # images or groups, below which scores and intervals are rough guesses
