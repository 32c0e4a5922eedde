import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

# A loss per sample, added in a loop and divided by the samples of a step.
model = mlp(norm=False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
train, val = loaders(8)
for epoch in range(3):
    model.train()
    for i, (x, y) in enumerate(train):
        logits = model(x)
        loss = 0
        for one, label in zip(logits, y):
            loss = loss + F.cross_entropy(one[None], label[None])
        (loss * (1 / 32)).backward()
        if (i + 1) % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
    print(accuracy(model, val))
