import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)


def run(loader, training):
    model.train(training)
    total = 0.0
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        if training:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total += loss.item()
    return total / len(loader)


train, val = loaders()
for epoch in range(6):
    print(run(train, True), run(val, False))
