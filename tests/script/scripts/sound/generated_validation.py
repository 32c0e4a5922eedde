import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


class Generated(torch.utils.data.IterableDataset):
    def __iter__(self):
        for _ in range(256):
            x = torch.randn(20)
            yield x, x[:4].argmax()


train, _ = loaders()
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(5):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        print(
            sum(
                (model(x).argmax(1) == y).sum()
                for x, y in torch.utils.data.DataLoader(Generated(), 64)
            )
        )
