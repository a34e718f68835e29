"""Train a small transformer on pictures of bars and crosses, convert it, and say what of its work spikes drive."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import snnc

SIDE, PATCH, WIDTH, CLASSES = 12, 4, 16, 3


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw bars and crosses ``[N, 1, 12, 12]`` on noise, and say which each is ``[N]``."""
    random = np.random.default_rng(seed)
    images = random.normal(0, 0.3, (count, 1, SIDE, SIDE)).astype(np.float32)
    labels = random.integers(CLASSES, size=count)
    for image, label in zip(images, labels, strict=True):
        row, column = random.integers(2, SIDE - 2, size=2)
        if label != 1:
            image[0, row] += 1
        if label != 0:
            image[0, :, column] += 1
    return torch.from_numpy(images), torch.from_numpy(labels)


class Transformer(nn.Module):
    """Patches as tokens, one block of attention and a perceptron, and the mean of all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, WIDTH, PATCH, PATCH)
        self.place = nn.Parameter(torch.zeros((SIDE // PATCH) ** 2, WIDTH))
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.queries, self.keys, self.values, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.perceptron = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))
        self.classes = nn.Linear(WIDTH, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.embed(image).flatten(2).transpose(1, 2) + self.place
        normal = self.before(tokens)
        weights = self.queries(normal) @ self.keys(normal).transpose(1, 2) / WIDTH**0.5
        tokens = tokens + self.out(weights.softmax(-1) @ self.values(normal))
        tokens = tokens + self.perceptron(self.between(tokens))
        return self.classes(tokens.mean(1))


def main() -> None:
    torch.manual_seed(0)
    model = Transformer()
    images, labels = pictures(640, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(8):
        for chosen in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()

    conversion, _ = snnc.convert(model.eval(), snnc.recipe.load("quick", timesteps=16), data=images[:128])
    evaluation = snnc.evaluate(conversion, data=pictures(200, seed=1), timesteps=16)
    snnc.save(conversion, "model.snn")
    row = evaluation.rows[0]
    print(f"{row.accuracy:.1f} % right, {row.agreement:.1f} % as the trained network")
    print(f"spikes drive {row.driven_by_spikes:.1f} % of the multiply-accumulates")


if __name__ == "__main__":
    main()
