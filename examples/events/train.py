"""Draw recordings of bars that move before an event camera, and train a network on frames of them."""

import warnings

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import snnc

SIDE, STEPS, MOVES = 16, 12, ("right", "left", "down", "up")


def recordings(count: int, seed: int, path: str) -> None:
    """Write bars that move: where one arrives pixels get brighter, where it was they get darker."""
    random = np.random.default_rng(seed)
    labels, parts, offsets = random.integers(len(MOVES), size=count), [], [0]
    for label in labels:
        places = np.arange(STEPS) + random.integers(0, 3)
        places = places if label % 2 == 0 else SIDE - 1 - places
        events = []
        for step, place in enumerate(places):
            behind = place - 1 if label % 2 == 0 else place + 1
            for line, polarity in ((place, 1), (behind, 0)):
                for other in range(SIDE):
                    if 0 <= line < SIDE and random.random() < 0.8:
                        x, y = (line, other) if label < 2 else (other, line)
                        events.append((x, y, polarity, 1000 * step + random.integers(0, 1000)))
        parts.append(np.array(sorted(events, key=lambda event: event[3]), dtype=np.int64))
        offsets.append(offsets[-1] + len(events))
    np.savez(path, events_xypt=np.concatenate(parts), offsets=np.array(offsets), labels=labels)


def main() -> None:
    torch.manual_seed(0)
    recordings(200, 0, "train.npz")
    recordings(100, 1, "test.npz")
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 64, len(MOVES)),
    )  # fmt: skip
    # Frames as they will be made of recordings later: snnc.yaml says the same.
    frames = snnc.Preprocessing(events=snnc.data.event_frames.EventFrames(frames=4))
    data = snnc.open_dataset("train.npz", frames, {"image": (2, SIDE, SIDE)})
    images = torch.cat([batch["image"] for batch in data.batches()], 1)  # [4, 200, 2, 16, 16]
    labels = data.labels("classes").answers
    optimizer = torch.optim.Adam(model.parameters(), 0.005)
    for _ in range(15):
        for chosen in torch.randperm(len(labels)).split(50):
            optimizer.zero_grad()
            logits = torch.stack([model(frame) for frame in images[:, chosen]]).mean(0)
            F.cross_entropy(logits, labels[chosen]).backward()
            optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model.eval(), (images[0, :1],), "model.onnx", dynamo=False,
            input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "N"}},
        )  # fmt: skip


if __name__ == "__main__":
    main()
