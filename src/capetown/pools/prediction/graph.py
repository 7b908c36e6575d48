"""A model as one graph from tiles as they are read to logits: what other engines take."""

import torch
from torch import Tensor, nn

from capetown.pools.model.inference import flipped_and_turned
from capetown.pools.model.manifest import ModelManifest


class Graph(nn.Module):
    """A model with what its card says of its input.

    `forward` takes uint8 or floats from 0 to 255, shape (tiles, 3, size, size), and gives float32
    logits, shape (tiles,): the values shifted and scaled, and the logits averaged over a tile's
    eight flips and quarter turns, where the card says so.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, card: ModelManifest) -> None:
        super().__init__()
        self.model, self.views = model, 8 if card.tta else 1
        self.register_buffer("shift", 255 * torch.tensor(card.mean).view(3, 1, 1))
        self.register_buffer("scale", 255 * torch.tensor(card.std).view(3, 1, 1))

    def forward(self, tiles: Tensor) -> Tensor:
        """Logits of tiles."""
        batch = (tiles.float() - self.shift) / self.scale
        images = batch if self.views == 1 else torch.cat(list(flipped_and_turned(batch)))
        logits: Tensor = self.model(images)[:, 0].float()
        return logits.reshape(self.views, -1).mean(0)


class Probabilities(nn.Module):
    """The calibrated probabilities of ``yes``, of a graph's logits."""

    def __init__(self, graph: Graph, temperature: float) -> None:
        super().__init__()
        self.whole, self.temperature = graph, temperature

    def forward(self, tiles: Tensor) -> Tensor:
        """Probabilities of tiles, shape (tiles,)."""
        logits: Tensor = self.whole(tiles)
        return torch.sigmoid(logits / self.temperature)
