"""The weighted sum of loss terms from YAML: ``loss: {bce: 0.5, dice: 0.5}``.

The terms are in `loss_terms` and `shape_losses`. Of independent classes each channel is a sigmoid.
Exclusive classes (``classes: exclusive``) are a softmax with the background as channel 0:
``cross_entropy`` takes it as it is, every other term each class against the rest, with the
softmax's probabilities; ``background: true`` lets it count the background too.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_seg.errors import InputError, unknown
from lightning_seg.training.loss_terms import (
    ace,
    bce,
    cross_entropy,
    dice,
    focal,
    jaccard,
    lovasz,
    mcc,
    tversky,
)
from lightning_seg.training.shape_losses import boundary_loss, cldice_loss, structure_loss

Term = Callable[..., Tensor]
TERMS: dict[str, Term] = {
    "ace": ace,
    "bce": bce,
    "boundary": boundary_loss,
    "cldice": cldice_loss,
    "dice": dice,
    "focal": focal,
    "jaccard": jaccard,
    "lovasz": lovasz,
    "mcc": mcc,
    "structure": structure_loss,
    "tversky": tversky,
}
# of exclusive classes only
SOFTMAX_TERMS: dict[str, Term] = {"cross_entropy": cross_entropy}
BACKGROUND = "background"
# options that may hold a number for each class
_BY_CLASS = ("class_weights", "pos_weight")
_CERTAIN = 1e-7  # the least probability of all other classes together


@dataclass(frozen=True)
class WeightedTerm:
    """One term of the sum.

    Attributes:
        background: whether the background of exclusive classes counts as a class.
    """

    name: str
    weight: float
    options: Mapping[str, Any]
    background: bool = False

    def __call__(
        self,
        logits: Tensor,
        mask: Tensor,
        counted: Tensor | None,
    ) -> Tensor:
        term = TERMS.get(self.name) or SOFTMAX_TERMS[self.name]
        return self.weight * term(logits, mask, counted, **self.options)


class WeightedLoss(nn.Module):
    """Sum of ``weight * term(logits, mask, counted, **options)``.

    Args:
        terms: name -> weight, or name -> ``{weight: w, option: value, ...}``.
        classes: their names, by which ``pos_weight`` and ``class_weights`` may be given:
            ``{tumor: 5}``; those left out have 1.
        exclusive: whether the logits are a softmax of the background and the classes.
    """

    def __init__(
        self,
        terms: dict[str, float | dict[str, Any]],
        classes: Sequence[str] = (),
        exclusive: bool = False,
    ) -> None:
        super().__init__()
        self.exclusive = exclusive
        self._names = [*([BACKGROUND] if exclusive else []), *classes]
        if not terms:
            raise InputError(
                f"the loss is empty; give at least one of {', '.join(self._known)}, such as "
                "{bce: 0.5, dice: 0.5}."
            )
        self.terms = [self._term(name, value) for name, value in terms.items()]

    @property
    def _known(self) -> dict[str, Term]:
        return TERMS | (SOFTMAX_TERMS if self.exclusive else {})

    def _term(
        self,
        name: str,
        value: float | dict[str, Any],
    ) -> WeightedTerm:
        if name in SOFTMAX_TERMS and not self.exclusive:
            raise InputError(
                f"the loss {name!r} is for exclusive classes; set classes: exclusive, or take bce."
            )
        if name not in self._known:
            raise unknown("loss", name, self._known)
        options = dict(value) if isinstance(value, dict) else {"weight": value}
        weight = options.pop("weight", 1.0)
        if not _is_number(weight) or not 0 <= weight < math.inf:
            raise InputError(
                f"the weight of loss {name!r} is {weight!r}; give a number of at least 0."
            )
        known = list(inspect.signature(self._known[name]).parameters)[3:]
        more = [BACKGROUND] if self.exclusive and name in TERMS else []
        for option in options:
            if option not in (*known, *more):
                raise unknown(f"option of loss {name!r}", option, [*known, *more, "weight"])
        background = options.pop(BACKGROUND, False)
        # the channels that the term sees
        whole = not self.exclusive or background or name in SOFTMAX_TERMS
        names = self._names if whole else self._names[1:]
        checked = {key: self._checked(name, key, options[key], names) for key in options}
        return WeightedTerm(name, float(weight), checked, bool(background))

    def _checked(
        self,
        name: str,
        option: str,
        value: Any,
        names: Sequence[str],
    ) -> Any:
        """A legal value of an option; one for each class as a list in their order."""
        if option in _BY_CLASS and isinstance(value, list | dict):
            return self._by_class(name, option, value, names)
        if option == "class_weights" or not isinstance(value, int | float):
            kinds = (
                "a number for each class" if option in _BY_CLASS else "a number, or true or false"
            )
            raise InputError(f"{option} of loss {name!r} is {value!r}; give {kinds}.")
        if option == "pos_weight" and value <= 0:
            raise InputError(f"{option} of loss {name!r} is {value}; give a number above 0.")
        if option == "label_smoothing" and not 0 <= value < 1:
            raise InputError(
                f"{option} of loss {name!r} is {value}; give a share from 0, below 1, such as 0.1."
            )
        return value

    @staticmethod
    def _by_class(
        name: str,
        option: str,
        given: list[Any] | dict[str, Any],
        names: Sequence[str],
    ) -> list[float]:
        values: list[Any] = list(given)
        if isinstance(given, dict):
            for each in given:
                if each not in names:
                    raise unknown(f"class in {option} of loss {name!r}", str(each), names)
            values = [given.get(each, 1.0) for each in names]
        fits = not names or len(values) == len(names)
        if not fits or not all(_is_number(each) and each > 0 for each in values):
            raise InputError(
                f"{option} of loss {name!r} is {given!r}; give a number above 0 for each of "
                f"{', '.join(names)}."
            )
        return [float(each) for each in values]

    def forward(
        self,
        logits: Tensor,
        mask: Tensor,
        counted: Tensor | None = None,
    ) -> Tensor:
        """The loss of logits (B, K, H, W), of exclusive classes (B, 1 + K, H, W).

        Args:
            mask: (B, K, H, W).
            counted: which pixels count (B, 1, H, W), None: all.
        """
        logits, mask = logits.float(), mask.float()
        counted = None if counted is None else counted.float()
        if self.exclusive:
            return self._of_softmax(logits, mask, counted)
        return torch.stack([term(logits, mask, counted) for term in self.terms]).sum()

    def _of_softmax(
        self,
        logits: Tensor,
        mask: Tensor,
        counted: Tensor | None,
    ) -> Tensor:
        rest = (1 - mask.sum(1, keepdim=True)).clamp_min(0)
        whole, each = torch.cat([rest, mask], 1), against_rest(logits)
        found = []
        for term in self.terms:
            if term.name in SOFTMAX_TERMS:
                found.append(term(logits, whole, counted))
            elif term.background:
                found.append(term(each, whole, counted))
            else:
                found.append(term(each[:, 1:], mask, counted))
        return torch.stack(found).sum()

    def supervised(
        self, maps: Sequence[Tensor], mask: Tensor, counted: Tensor | None = None
    ) -> Tensor:
        """The loss of the logits, plus the mean of the losses of the deep outputs.

        Args:
            maps: the logits, then the deep outputs, where a network has them.
        """
        logits, *deep = maps
        loss = self(logits, mask, counted)
        if not deep:
            return loss
        deep_losses = [self(each, mask, counted) for each in deep]
        return loss + torch.stack(deep_losses).mean()


def against_rest(logits: Tensor) -> Tensor:
    """Logits of each channel against all others, whose sigmoid is the softmax of the channels."""
    log_probability = logits.log_softmax(1)
    rest = -torch.expm1(log_probability)
    return log_probability - rest.clamp_min(_CERTAIN).log()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
