"""The learning rates of lecture step 3 in a bare PyTorch loop.

    python sweep_torch.py IMAGES.npz '[[0.1, 0], [0.01, 0]]'    # rates and seeds

Prints the loss that each ends with.
"""

import json
import sys

import torch
from common import BATCH, MOMENTUM, images, network, tensors
from torch.nn import functional as F

ITERATIONS = 100


def main() -> None:
    x, y, _, _ = images(sys.argv[1])
    inputs, labels = tensors(x), torch.from_numpy(y).long()
    mean, std = inputs.mean((0, 2, 3), keepdim=True), inputs.std((0, 2, 3), keepdim=True)
    inputs = (inputs - mean) / std
    for lr, seed in json.loads(sys.argv[2]):
        torch.manual_seed(seed)
        model = network(inputs.shape[1], inputs.shape[2], int(labels.max()) + 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=1e-4)
        steps = 0
        while steps < ITERATIONS:
            for batch in torch.randperm(len(inputs)).split(BATCH)[: ITERATIONS - steps]:
                loss = F.cross_entropy(model(inputs[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                steps += 1
        print(lr, seed, loss.item())


main()
