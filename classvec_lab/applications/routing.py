"""Taking an attribute away as deployed: from a representation alone, without a label."""

from dataclasses import field, replace

import numpy as np
import torch

from ..checks import in_range, record
from ..editing.heads import SteppedHead, with_head
from ..features import Features
from .attributes import AttributeVectors


@record
class Router:
    """Finds class and value of a representation at once, and moves it by that cell's step.

    The cell is the largest of weight z + bias, a linear discriminant over the C classes without
    the attribute, whose steps are 0, and all A · C pairs of a value and a class.

    Args:
        weight, steps: (K, m); bias: (K,); K = C + A · C.
        vectors: behind them.
    """

    weight: np.ndarray
    bias: np.ndarray
    steps: np.ndarray
    vectors: AttributeVectors = field(repr=False)

    def cells(self, z: np.ndarray) -> np.ndarray:
        """The row of each representation z (N, m), (N,)."""
        return (np.asarray(z, float) @ self.weight.T + self.bias).argmax(axis=1)

    def found(self, z: np.ndarray) -> np.ndarray:
        """The index of the value that each z (N, m) has, -1 for none."""
        return self.cells(z) // len(self.vectors.classes) - 1

    def moved(self, z: np.ndarray) -> np.ndarray:
        """z (N, m) without the attribute, where it is found."""
        return z + self.steps[self.cells(z)]

    def answered(self, z: np.ndarray) -> np.ndarray:
        """The mean of the class that each z (N, m) is routed to: the router as a classifier."""
        return self.vectors.means[self.cells(z) % len(self.vectors.classes)]

    def turned(self, directions: np.ndarray) -> "Router":
        """The same with steps of the same lengths along directions (m,) or (K, m): a control."""
        size = np.linalg.norm(directions, axis=-1, keepdims=True)
        unit = directions / np.maximum(size, 1e-12)
        return replace(self, steps=np.linalg.norm(self.steps, axis=1, keepdims=True) * unit)

    def on(self, classifier):
        """The classifier that reads z + step; encoder and head are shared, as with `inject`."""
        self.vectors.require(classifier)
        return with_head(classifier, RoutedHead(classifier.head, self))


class RoutedHead(SteppedHead):
    """head(z + step of the cell that z is in), decided in float64 on the CPU."""

    def __init__(self, head, router: Router):
        super().__init__(head)
        self.router = router

    def step(self, z: torch.Tensor) -> torch.Tensor:
        """The moved representations (N, m)."""
        cells = self.router.cells(z.detach().float().cpu())
        return z + torch.from_numpy(self.router.steps[cells]).to(z)


def route(
    vectors: AttributeVectors, plain: Features, *, strength: float = -1.0, false_fire: float = 0.01
) -> Router:
    """The router that takes an attribute away: z + strength · shift of the pair that is found.

    Args:
        vectors: shrunk or not, see `AttributeVectors.pooled`.
        plain: held-out samples without the attribute. Rows without it gain as much as lets at most
            `false_fire` of them be taken for having it. Labels are not read.
        strength: -1 takes the mean shift back.
        false_fire: a share in (0, 1).
    Raises:
        MismatchError: for another width, or a share out of range.
    """
    in_range("false_fire", false_fire, 0, 1, open_low=True, open_high=True)
    n, means = len(vectors.classes), vectors.cells
    weight = np.linalg.solve(vectors.covariance, means.T).T
    bias = -0.5 * np.einsum("km,km->k", weight, means)
    score = plain.z @ weight.T + bias
    lead = score[:, n:].max(axis=1) - score[:, :n].max(axis=1)
    bias[:n] += max(np.quantile(lead, 1 - false_fire, method="higher"), 0)
    return Router(weight, bias, strength * vectors.steps, vectors)
