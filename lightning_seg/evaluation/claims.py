"""How likely "A is better than B" is false, from published means and the number of images.

Both methods are scored on the same n images. With the standard deviations s of their Dice over
images and the correlation r of the two, the difference of the true means follows Student's t:

    P(A is not better) = F_(n-1)( sqrt(n) (b - a) / sqrt(s_a^2 + s_b^2 - 2 r s_a s_b) )

(Christodoulou et al., False Promises in Medical Imaging AI?, 2025, arXiv 2505.04720). What papers
do not print is assumed, and printed with every answer: s follows from the mean m as
``SPREAD sqrt(m (1 - m))``, and r lies in a range. Both were measured on the score tables of
``experiments/results`` (a test holds them to those). The chance of another seed, and of a choice
among several models on the test set, comes on top.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_seg.errors import InputError

# SD of Dice per image over sqrt(mean (1 - mean)): 10th, 50th and 90th percentile over lesions
SPREADS = (0.49, 0.54, 0.57)
SPREAD = SPREADS[1]
# correlation of two models over the same images: 10th, 50th and 90th percentile
CORRELATIONS = (0.73, 0.84, 0.91)
FALSE = 0.05  # a claim of a larger probability to be false is not supported


@dataclass(frozen=True)
class Claim:
    """A claim that one method is better than another on the same images.

    Attributes:
        better, worse: mean Dice per image.
        images: how many were scored.
        deviations: SD over images of each; where they are not known, see `assumed_deviation`.
    """

    better: float
    worse: float
    images: int
    deviations: tuple[float, float]

    @classmethod
    def of_means(
        cls,
        better: float,
        worse: float,
        images: int,
        deviations: Sequence[float | None] = (None, None),
    ) -> "Claim":
        """The claim of two published means, with the spread that they usually have.

        Raises:
            InputError: these are no means of scores over images.
        """
        if images < 2:
            raise InputError(f"n_images is {images}; give 2 or more.")
        known = [
            assumed_deviation(mean) if own is None else own
            for mean, own in zip((better, worse), deviations, strict=True)
        ]
        wrong = next((own for own in known if not 0 <= own <= 0.5), None)
        if wrong is not None:
            raise InputError(f"the standard deviation {wrong} is none of scores from 0 to 1.")
        return cls(better, worse, images, (known[0], known[1]))

    def probability_false(self, correlation: float) -> float:
        """The probability that the method called better is not, given the correlation of both."""
        from scipy.stats import t

        if not -1 <= correlation <= 1:
            raise InputError(f"the correlation is {correlation}; give a number from -1 to 1.")
        first, second = self.deviations
        variance = first**2 + second**2 - 2 * correlation * first * second
        gap = self.worse - self.better
        if variance <= 0:
            return 0.0 if gap < 0 else 0.5 if gap == 0 else 1.0
        return float(t.cdf(math.sqrt(self.images / variance) * gap, self.images - 1))

    def needed_images(self, correlation: float, most: int = 10**7) -> int | None:
        """The smallest number of images with which the same means would support the claim."""
        if self.better <= self.worse:
            return None
        low, high = 2, most
        while low < high:
            middle = (low + high) // 2
            fewer = Claim(self.better, self.worse, middle, self.deviations)
            if fewer.probability_false(correlation) <= FALSE:
                high = middle
            else:
                low = middle + 1
        return low


def assumed_deviation(mean: float) -> float:
    """The SD of Dice over images of lesions that goes with a mean."""
    return SPREAD * math.sqrt(mean * (1 - mean))


def _chance_text(probability: float) -> str:
    """Three digits; nothing is certain."""
    if probability < 0.0005:
        return "below 0.001"
    return "above 0.999" if probability > 0.9995 else f"{probability:.3f}"


def claim_lines(claim: Claim, correlation: float | None = None) -> list[str]:
    """The answer in words, with what it assumes."""
    given = [correlation] if correlation is not None else list(CORRELATIONS)
    lines = [
        f"claim: {claim.better:.4f} is better than {claim.worse:.4f}, on the same "
        f"{claim.images} images",
    ]
    for each in given:
        found = claim.probability_false(each)
        word = "supported" if found <= FALSE else "NOT supported"
        needed = claim.needed_images(each)
        images = f"; {needed} images would do" if found > FALSE and needed else ""
        chance = _chance_text(found)
        lines.append(f"  correlation {each:.2f}: false with probability {chance}, {word}{images}")
    first, second = claim.deviations
    lines.append(
        f"assumed: an SD over images of {first:.3f} and {second:.3f} "
        f"({SPREAD} sqrt(m (1 - m)) where none was given), one seed, no choice on the test set; "
        f"{'the correlation as given' if correlation is not None else 'correlations as measured'}"
    )
    return lines
