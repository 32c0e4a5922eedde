import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.places = nn.Embedding.from_pretrained(torch.randn(5, 4), freeze=True)
        self.layers = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, x):
        return self.layers((x.reshape(-1, 5, 4) + self.places.weight).flatten(1))


train, val = loaders()
model = Positions()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, accuracy(model, val))
