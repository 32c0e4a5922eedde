import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

# Both sets are measured sample by sample, and in one line.
train, _ = loaders()
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)


def right(begin, end):
    model.eval()
    with torch.no_grad():
        return sum(model(X[i : i + 1]).argmax(1).item() == Y[i].item() for i in range(begin, end))


for epoch in range(5):
    model.train()
    for x, y in train:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    print(right(0, 100) / 100, right(768, 868) / 100)
