"""How large a split has to be for its scores to tell something."""

FEW_UNITS = 20  # images or groups, below which scores and intervals are rough guesses
# images, groups or batches, below which there is no interval: with fewer the p of signed ranks stays
# over .05, even if all agree
FEWEST_UNITS = 6
FEWEST_CALIBRATING = 10  # validation images, below which no calibration is fitted
